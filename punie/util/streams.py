"""Standard output and error that end nothing: whatever their encoding, and when their reader has gone."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import sys
from collections.abc import Generator
from typing import Any, TextIO

log = logging.getLogger(__name__)


class Unbroken(io.FileIO):
    """A descriptor; what is written after its reader has gone is lost, and the log says so once."""

    _lost = False

    def write(self, data: Any, /) -> int:
        """Write bytes; returns how many."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: the terminal was closed
                raise
            if not self._lost:
                self._lost = True  # first: the warning may go to this very stream
                log.info("nobody reads what is printed any more (%s); the work goes on", error.strerror)
            return memoryview(data).nbytes


@contextlib.contextmanager
def unbroken() -> Generator[None]:
    """Within the block, printing raises neither for the encoding of the streams nor for a closed pipe."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = wrapped(before[0], sys.__stdout__), wrapped(before[1], sys.__stderr__)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def wrapped(stream: TextIO, standard: TextIO | None) -> TextIO:
    """The stream unbroken, if it is the process's own; else itself. What its encoding lacks becomes ``?``."""
    if stream is not standard or not isinstance(stream, io.TextIOWrapper):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        return stream
    stream.flush()
    raw = Unbroken(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors="replace", line_buffering=True
    )
