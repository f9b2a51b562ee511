"""Who is using an artifact, so that nobody deletes it under them.

A lease is a shared lock of the operating system on a file beside the store's own locks; it vanishes with
its process. An artifact is dropped only under the exclusive lock, that is, when no lease is left.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Generator
from pathlib import Path

from punie.store.artifacts import Artifact, Store


@contextlib.contextmanager
def lease(store: Store, stage: str, key: str) -> Generator[None]:
    """Keep a key's artifact, there or yet to be built, from being dropped while the block runs."""
    with _file(store, stage, key).open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield


def drop(store: Store, artifact: Artifact) -> bool:
    """Delete an artifact that nobody uses; returns whether it was deleted."""
    with _file(store, artifact.path.parent.name, artifact.path.name).open("wb") as stream:
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
