"""Counts the calls by which punie changes files, and makes one of them fail.

It stands between punie and the operating system: ``open`` for writing, what is written to such a stream
when it is really handed over, and the functions of ``os`` that write, flush, make, rename and delete. What
libraries write by themselves (mlx, in C++) does not come by here; a disk that is really full is for that
(``tests/faults/filesystems.py``).
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import punie

FAULTS = ("ENOSPC", "EIO", "EINTR", "kill before", "kill after")
"""An error, or the end of the process before or after the call. A disk that is full stays full."""
POWER = "power loss"
"""The end of the process, and of all that was not flushed: files keep their names, and lose their bytes."""
KILLS = ("kill", POWER)
_NEEDS_SPACE = (
    *("open", "write", "pwrite", "sendfile", "truncate"),
    *("mkdir", "rename", "replace", "link", "fsync"),
)
_CHANGE = ("rename", "replace", "mkdir", "rmdir", "unlink", "chmod", "link", "symlink")
_BY_HANDLE = ("fsync", "pwrite", "write", "sendfile", "ftruncate")
HANDLES = Path("/proc/self/fd")
"""What an open file is called, where the system tells."""
_CODE = str(Path(punie.__file__).parent)


class Layer:
    """Put in place in a process that is about to be disturbed.

    Args:
        below: Only what happens in this folder counts.
        record: A line is added to this file for each call: what it was, and punie's line that led to it.
        nth: The call that fails, from 0; None for none.
        fault: One of ``FAULTS``, or ``POWER``.
    """

    def __init__(self, below: Path, record: Path, nth: int | None = None, fault: str = "EIO") -> None:
        self.below, self.nth, self.fault = os.path.realpath(below), nth, fault
        self.count = 0
        self._flushed: dict[int, int] = {}  # inode to the size that is safe
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        self._write, self._open = os.write, io.open

    def install(self) -> None:
        """Take the place of the real functions, for as long as this process lives."""
        for name in (*_CHANGE, *_BY_HANDLE):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        real = os.open

        def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return real(path, flags, *args, **kwargs)
            return self.around("open", path, kwargs.get("dir_fd"), lambda: real(path, flags, *args, **kwargs))

        os.open = opened  # ty: ignore[invalid-assignment]
        io.open = builtins.open = self._stream  # ty: ignore[invalid-assignment]

    def around(self, kind: str, place: Any, dir_fd: int | None, call: Callable[[], Any]) -> Any:
        """Do a call, or what is to happen in its stead."""
        where = _where(place, dir_fd)
        if not where.startswith(self.below):
            return call()
        number, self.count = self.count, self.count + 1
        self._write(self._record, f"{kind} {_site()}\n".encode())
        full = self.fault == "ENOSPC" and kind in _NEEDS_SPACE
        if self.nth is None or number < self.nth or (number > self.nth and not full):
            return call()
        if self.fault == POWER:
            self._forget()
        if self.fault.startswith(KILLS):
            try:
                if self.fault.endswith("after"):
                    call()
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "ENOSPC" and kind not in _NEEDS_SPACE:
            return call()
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code), where)

    def _forget(self) -> None:
        """Cut every file back to what was flushed of it; what is linked from elsewhere was there before."""
        for path in Path(self.below).rglob("*"):
            about = path.lstat()
            if path.is_file() and about.st_nlink == 1:
                os.truncate(path, self._flushed.get(about.st_ino, 0))

    def _wrapped(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(first: Any, *args: Any, **kwargs: Any) -> Any:
            answer = self.around(kind, first, kwargs.get("dir_fd"), lambda: real(first, *args, **kwargs))
            if kind == "fsync":
                about = os.fstat(first)
                self._flushed[about.st_ino] = about.st_size
            return answer

        return wrapper

    def _stream(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """``open``, its lowest level replaced by one of ours where something is to be written."""
        if not set(mode) & set("wax+") or not (where := _where(file)).startswith(self.below):
            return self._open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        plain = mode.replace("b", "").replace("t", "")

        def made() -> _File:
            return _File(self, where, file, plain, closefd, opener)

        raw = made() if isinstance(file, int) else self.around("open", where, None, made)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return raw if buffering == 0 else buffered
        text = io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, buffering == 1)
        text.mode = mode  # ty: ignore[invalid-assignment]
        return text


class _File(io.FileIO):
    """A file whose writes go by the layer. Like the kernel's, they fail when a buffer is handed over."""

    def __init__(self, layer: Layer, where: str, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        super().__init__(file, mode, closefd, opener)
        self._layer, self._where = layer, where

    def write(self, data: Any) -> int:
        return self._layer.around("write", self._where, None, lambda: super(_File, self).write(data))

    def truncate(self, size: int | None = None) -> int:
        return self._layer.around("truncate", self._where, None, lambda: super(_File, self).truncate(size))


def _where(place: Any, dir_fd: int | None = None) -> str:
    """The path that a call is about, given by name, by name in an open folder, or by handle."""
    if isinstance(place, int):
        return str((HANDLES / str(place)).readlink())
    path = Path(os.fsdecode(place))
    if dir_fd is not None:
        path = (HANDLES / str(dir_fd)).readlink() / path
    return str(path.absolute())


def _site() -> str:
    """The line of punie that led to this call."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_CODE):
            return f"{name[len(_CODE) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
