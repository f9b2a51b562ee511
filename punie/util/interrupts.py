"""SIGINT/SIGTERM handling that survives code which swallows exceptions.

Python raises a signal's exception inside whatever is running, which may swallow it: CPython 3.11 does while
it formats the ValueError of ``int("x")``. So the signal is also recorded, and long operations call ``check``.
During an import nothing is raised until it ends, so that no module is left half-loaded in ``sys.modules``.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator
from types import FrameType

_pending: type[KeyboardInterrupt] | None = None
_SOON = 0.05
"""Seconds until the next attempt, if the signal arrived during an import."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@contextlib.contextmanager
def heeded(kind: type[KeyboardInterrupt] = KeyboardInterrupt) -> Generator[None]:
    """Within the block, SIGINT and SIGTERM raise ``kind``, at the next ``check`` at the latest.

    A signal that was ignored stays ignored: a shell makes its background processes ignore Ctrl-C. A nested
    block has a kind of its own, to tell the two apart.
    """
    global _pending

    def handle(_number: int, frame: FrameType | None) -> None:
        global _pending
        _pending = kind
        if _is_importing(frame):
            signal.setitimer(signal.ITIMER_REAL, _SOON)
            return
        raise kind

    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
        waiting, _ = signal.setitimer(signal.ITIMER_REAL, 0.0)
        if waiting:  # the block ended before the timer raised it
            raise kind
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)
        _pending = None


def check() -> None:
    """Raise the exception of a signal again, if it was swallowed.

    Raises:
        KeyboardInterrupt: Or the kind that ``heeded`` was given.
    """
    if _pending is not None:
        raise _pending


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
