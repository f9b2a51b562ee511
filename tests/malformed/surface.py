"""A surface is one way in for input from outside; a case is one input, played once."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from punie.util.errors import PunieError
from punie.util.printable import printable

DEADLINE = 5.0
"""Longest case, in seconds of processor time, so that other work on the machine does not count."""
WAIT = 60.0
"""Longest case, in seconds of real time."""
GROWTH = 256 * 2**20
"""Most by which a case may raise this process's peak of memory, in bytes."""
MESSAGE = 20_000
"""Longest message of a refusal, in characters."""

Ending = Literal["accepted", "refused", "uncaught"]


@dataclass(frozen=True)
class Surface:
    """One way in."""

    name: str
    make: Callable[[random.Random], Any]
    """An input: bytes, text, or files by name; the same draws give the same one."""
    feed: Callable[[Any, Path], object]
    """Gives an input to punie and uses what comes out; the second argument is an empty folder's path."""
    share: int = 1
    """Cases that it gets for each one of another surface."""
    refusals: tuple[type[BaseException], ...] = (PunieError,)
    """What may be raised for a wrong input."""


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    ending: Ending
    seconds: float
    words: str = ""
    """What was raised, for an uncaught one."""


class Deadline(BaseException):
    """A case takes too long. No ``except Exception`` on its way stops it."""


class Bound(AssertionError):
    """A case ended as it may, and took too much memory, or too many words."""


def case(surface: Surface, seed: int, number: int) -> Any:
    """The input of a case: a function of the surface's name, the seed and the number."""
    return surface.make(random.Random(f"{surface.name}/{seed}/{number}"))


def play(surface: Surface, given: Any, folder: Path) -> Outcome:
    """Give an input to punie; whatever comes of it is an outcome.

    Args:
        surface: Where it goes in.
        given: The input.
        folder: An empty folder, or one that an earlier case of this surface used.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = time.perf_counter()
    ending: Ending = "accepted"
    words = ""
    try:
        with _deadline():
            try:
                surface.feed(given, folder)
            except surface.refusals as error:
                ending = "refused"
                _require_short(error)
        _require_small(peak)
    except (Exception, Deadline) as error:
        ending, words = "uncaught", f"{type(error).__name__}: {error}"
    return Outcome(ending, time.perf_counter() - clock, words)


def _require_short(error: BaseException) -> None:
    message = "\n".join(map(printable, str(error).split("\n")))  # as the front door shows it
    if len(message) > MESSAGE:
        raise Bound(f"a message of {len(message):,} characters: {message[:200]}")


def _require_small(before: int) -> None:
    growth = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    if growth > GROWTH:
        raise Bound(f"{growth / 2**20:,.0f} MiB more than any case before")


@contextmanager
def _deadline() -> Generator[None]:
    def late(_signal: int, _frame: FrameType | None) -> None:
        raise Deadline(f"more than {DEADLINE:g} seconds")

    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, DEADLINE),
        (signal.ITIMER_REAL, signal.SIGALRM, WAIT),
    )
    before = [signal.signal(number, late) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
