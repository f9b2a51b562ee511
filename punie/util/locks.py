"""Locks on files and folders, which the system releases when their process ends (flock)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Generator
from pathlib import Path


@contextlib.contextmanager
def locked(
    path: Path, *, make: Callable[[Path], None] | None = None, shared: bool = False, wait: bool = True
) -> Generator[None]:
    """Hold the lock of a file or folder while the block runs; ``make`` makes it where it is not there.

    Where the name was deleted or renamed meanwhile, the lock is on what has the name then, so that two
    processes never hold one name. It asks for no permission to write: a file of another user can be locked.

    Raises:
        BlockingIOError: Another process holds it, and ``wait`` is False.
        FileNotFoundError: It is not there, and nothing makes it.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while (handle := _opened(path, make)) is None or not _acquired(path, handle, how):
        pass
    try:
        yield
    finally:
        os.close(handle)


def empty_file(path: Path) -> None:
    """Make an empty file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(exist_ok=False)


def empty_folder(path: Path) -> None:
    """Make an empty folder."""
    path.mkdir(parents=True)


def _opened(path: Path, make: Callable[[Path], None] | None) -> int | None:
    """A handle; None where somebody deleted what was just made."""
    if make is not None:
        with contextlib.suppress(FileExistsError):
            make(path)
    try:
        return _open(path)
    except FileNotFoundError:
        if make is None:
            raise
        return None


def _open(path: Path) -> int:
    """A handle to write with, which flock wants on network filesystems, where that is allowed."""
    with contextlib.suppress(PermissionError, IsADirectoryError):
        return os.open(path, os.O_RDWR)
    return os.open(path, os.O_RDONLY)


def _acquired(path: Path, handle: int, how: int) -> bool:
    """Wait for the lock; whether its file still has the name. Closes it where it has not, or on an error."""
    try:
        fcntl.flock(handle, how)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return True
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return False
