"""A wish to stop, by Ctrl-C or SIGTERM, that nothing on its way can lose.

Python raises a signal's exception wherever it happens to be, and what is being called there may drop it:
CPython 3.11 does, while it words the ValueError of ``int("x")``. So the wish is noted as well, and whatever
takes long looks for it (``progress.Reporter``, ``pipeline``, ``sweeps.job``). In the middle of an import
nothing is raised: half a library would stay in ``sys.modules``, and a sweep's summary needs it right after.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator
from types import FrameType

_wish: type[KeyboardInterrupt] | None = None
_SOON = 0.05
"""Seconds until the next try, where an import was in the way."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@contextlib.contextmanager
def heeded(kind: type[KeyboardInterrupt] = KeyboardInterrupt) -> Generator[None]:
    """While the block runs, SIGINT and SIGTERM raise this, at the next ``check`` at the latest.

    One that is ignored stays so: a shell has what it starts in the background ignore Ctrl-C.

    Args:
        kind: Tells whose interruption it is, where one block runs within another.
    """
    global _wish

    def note(_number: int, frame: FrameType | None) -> None:
        global _wish
        _wish = kind
        if _is_importing(frame):
            signal.setitimer(signal.ITIMER_REAL, _SOON)
            return
        raise kind

    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield
        waiting, _ = signal.setitimer(signal.ITIMER_REAL, 0.0)
        if waiting:  # for the end of an import, and the block's came first
            raise kind
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)
        _wish = None


def check() -> None:
    """Raise what a signal has raised before, if that was lost.

    Raises:
        KeyboardInterrupt: Or the kind that ``heeded`` was given.
    """
    if _wish is not None:
        raise _wish


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
