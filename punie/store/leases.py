"""Who is using an artifact, so that nobody deletes it under them.

A lease is a shared lock of the operating system on a file beside the store's own locks; it vanishes with
its process. An artifact is dropped only under the exclusive lock, that is, when no lease is left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Generator
from pathlib import Path

from punie.store.artifacts import Artifact, Store
from punie.util.errors import StoreError

_UNWRITABLE = (errno.EROFS, errno.EACCES)


@contextlib.contextmanager
def lease(store: Store, stage: str, key: str) -> Generator[None]:
    """Keep a key's artifact, there or yet to be built, from being dropped while the block runs.

    A store that cannot be written is used without: nothing can be dropped from it here.

    Raises:
        StoreError: There is no space for it.
    """
    with contextlib.ExitStack() as held:
        try:
            with store.writing():
                stream = held.enter_context(_file(store, stage, key).open("wb"))
            fcntl.flock(stream, fcntl.LOCK_SH)
        except StoreError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _UNWRITABLE:
                raise
        yield


def drop(store: Store, artifact: Artifact) -> bool:
    """Delete an artifact that nobody uses; returns whether it was deleted."""
    with store.writing(), _file(store, artifact.path.parent.name, artifact.path.name).open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # the last of its users drops it
        store.remove(artifact)
        return True


def _file(store: Store, stage: str, key: str) -> Path:
    folder = store.root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{stage}-{key}.lease"
