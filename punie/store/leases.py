"""Locks beside the store's own: leases of artifacts in use, and slots of a device.

All are OS file locks, which are released when their process ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import time
from collections.abc import Generator

from filelock import FileLock, Timeout

from punie.store.artifacts import Artifact, Store
from punie.util.errors import StoreError

_UNWRITABLE = (errno.EROFS, errno.EACCES)
_EVERY = 0.2
"""Seconds between attempts to get a slot."""


@contextlib.contextmanager
def lease(store: Store, stage: str, key: str) -> Generator[None]:
    """Keep the artifact of a key, built or not yet, from being dropped while the block runs: a shared lock.

    A store that cannot be written needs no lease: nothing can be dropped from it here.

    Raises:
        StoreError: The disk is full.
    """
    with contextlib.ExitStack() as held:
        try:
            with store.writing():
                stream = held.enter_context((store.locks / f"{stage}-{key}.lease").open("wb"))
            fcntl.flock(stream, fcntl.LOCK_SH)
        except StoreError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _UNWRITABLE:
                raise
        yield


def drop(store: Store, artifact: Artifact) -> bool:
    """Delete an artifact under an exclusive lock, if nobody has a lease; returns whether it was deleted."""
    name = f"{artifact.path.parent.name}-{artifact.path.name}.lease"
    with store.writing(), (store.locks / name).open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # its last user will drop it
        store.remove(artifact)
        return True


@contextlib.contextmanager
def slot(store: Store, count: int | None) -> Generator[float]:
    """Hold one of this machine's ``count`` slots for computing while the block runs; None is no limit.

    Yields:
        Seconds waited for it.
    """
    if count is None:
        yield 0.0
        return
    with store.writing():
        folder = store.locks
    slots = [FileLock(folder / f"device-{socket.gethostname()}-{n}.lock", timeout=0) for n in range(count)]
    clock = time.monotonic()
    while (held := next(filter(_take, slots), None)) is None:
        time.sleep(_EVERY)
    try:
        yield time.monotonic() - clock
    finally:
        held.release()


def _take(lock: FileLock) -> bool:
    try:
        lock.acquire()
    except Timeout:
        return False
    return True
