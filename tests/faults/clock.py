"""A clock that jumps: forward, back, and at every look."""

from __future__ import annotations

import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from random import Random

from tests.faults.kills import again
from tests.faults.report import Case
from tests.faults.world import BEHIND, STAGES, World

_YEAR = 365 * 86400.0


def cases(world: World, count: int) -> Iterator[Case]:
    """A clock of each kind in each stage."""
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        yield Case(stage, functools.partial(_jump, world, stage))


def _jump(world: World, stage: str, random: Random, figures: Counter[str]) -> Iterator[str]:
    place = world.place("clock", BEHIND[stage])
    ended = place.run(first=_jumping(random))
    figures["runs"] += 1
    if ended.code != 0 or "Traceback" in ended.text:
        yield f"wrong: it ends with {ended.code}: {ended.text[-1500:]}"
    yield from again(place, world)
    for command in (("store", "ls"), ("store", "gc"), ("store", "verify")):
        listed = place.run(*command, first=_jumping(random))
        if listed.code != 0:
            yield f"wrong: {' '.join(command)} ends with {listed.code}: {listed.text[-400:]}"


def _jumping(random: Random) -> Callable[[], None]:
    """Replace the wall clock of a process by one that is a random time off at each look, up to a year."""
    real = time.time

    def now() -> float:
        return real() + random.uniform(-_YEAR, _YEAR)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Jumping:
            return cls.fromtimestamp(now(), tz or UTC)

    def install() -> None:
        time.time = now  # ty: ignore[invalid-assignment]
        for name, module in list(sys.modules.items()):
            if name.startswith("punie.") and getattr(module, "datetime", None) is datetime:
                module.datetime = Jumping  # ty: ignore[missing-attribute]

    return install
