"""Keeps an artifact that is in use from being deleted.

A lease is a shared OS lock on a file beside the store's own locks; it is released when its process ends. An
artifact is dropped under the exclusive lock only, that is, when no lease is left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Generator

from punie.store.artifacts import Artifact, Store
from punie.util.errors import StoreError

_UNWRITABLE = (errno.EROFS, errno.EACCES)


@contextlib.contextmanager
def lease(store: Store, stage: str, key: str) -> Generator[None]:
    """Keep the artifact of a key, built or not yet, from being dropped while the block runs.

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
    """Delete an artifact if nobody uses it; returns whether it was deleted."""
    name = f"{artifact.path.parent.name}-{artifact.path.name}.lease"
    with store.writing(), (store.locks / name).open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # its last user will drop it
        store.remove(artifact)
        return True
