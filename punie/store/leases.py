"""Locks beside the store's own: leases of artifacts in use, and slots of a device.

All are OS file locks, which are released when their process ends.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import time
from collections.abc import Callable, Generator, Sequence, Set
from pathlib import Path

from punie.store.artifacts import Artifact, Store
from punie.util.errors import StoreError
from punie.util.locks import empty_file, locked

_UNWRITABLE = (errno.EROFS, errno.EACCES)
_EVERY = 0.2
"""Seconds between attempts to get a slot."""
_AT_ONCE = 100
"""Artifacts that are deleted together: as many files are open then, of 256 that macOS allows."""


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
                held.enter_context(locked(_lease(store, stage, key), make=empty_file, shared=True))
        except StoreError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _UNWRITABLE:
                raise
        yield


def drop(
    store: Store, artifacts: Sequence[Artifact], kept: Callable[[], Set[str]] = frozenset
) -> list[Artifact]:
    """Delete those artifacts on which nobody has a lease; returns them.

    ``kept`` gives the keys to keep. It is asked while nobody can take a lease, so that it knows what runs
    have recorded: a run first takes its leases, then looks again at what there is.
    """
    dropped = []
    for start in range(0, len(artifacts), _AT_ONCE):
        with store.writing(), contextlib.ExitStack() as held:
            free = [each for each in artifacts[start : start + _AT_ONCE] if _is_free(store, each, held)]
            keys = kept() if free else frozenset()
            for artifact in free:
                if artifact.key not in keys:
                    store.remove(artifact)
                    dropped.append(artifact)
    return dropped


def _lease(store: Store, stage: str, key: str) -> Path:
    return store.locks / f"{stage}-{key}.lease"


def _is_free(store: Store, artifact: Artifact, held: contextlib.ExitStack) -> bool:
    """Take the exclusive lock of an artifact; False where somebody has a lease."""
    lease = _lease(store, artifact.path.parent.name, artifact.path.name)
    try:
        held.enter_context(locked(lease, make=empty_file, wait=False))
    except BlockingIOError:
        return False  # its last user will drop it
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
    clock = time.monotonic()
    with contextlib.ExitStack() as held:
        for number in itertools.cycle(range(count)):
            try:
                slot = folder / f"device-{socket.gethostname()}-{number}.lock"
                held.enter_context(locked(slot, make=empty_file, wait=False))
                break
            except BlockingIOError:
                time.sleep(_EVERY if number == count - 1 else 0)
        yield time.monotonic() - clock
