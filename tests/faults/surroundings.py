"""A clock that jumps, and other processes that want the same training at the same moment."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from random import Random

from tests.faults.calls import build
from tests.faults.invariants import violations
from tests.faults.report import Case
from tests.faults.stops import again
from tests.faults.world import BEHIND, STAGES, World

MOST = 8
_YEAR = 365 * 86400.0


def clocks(world: World, count: int) -> Iterator[Case]:
    """A clock that jumps, in each stage in turn."""
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        yield Case(stage, functools.partial(_jump, world, stage))


def crowds(world: World, count: int) -> Iterator[Case]:
    """Rounds of eight processes; every tenth is of two to seven."""
    for number in range(count):
        yield Case("processes on one key", functools.partial(_round, world, number % 10 == 9))


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
    """Make the wall clock of a process wrong by a random time at each call, up to a year."""
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


def _round(world: World, few: bool, random: Random, figures: Counter[str]) -> Iterator[str]:
    place, size = world.place("crowd", BEHIND["train"]), random.randrange(2, MOST) if few else MOST
    log, gate = place.cwd / "trainings", time.monotonic() + 0.5
    attempts = [place.fork(build("train"), _counted(log, gate), f"{number}") for number in range(size)]
    for attempt in attempts:
        ended = attempt.wait()
        if ended.code != 0:
            yield f"lost: one ended with {ended.code}: {ended.text[-400:]}"
    trainings = len(log.read_text().splitlines())
    figures[f"rounds of {MOST}" if size == MOST else "rounds of 2 to 7"] += 1
    figures["processes"] += size
    figures["trainings"] += trainings
    if trainings != 1:
        yield f"wrong: {trainings} trainings"
    yield from violations(place, world, finished=[*BEHIND["train"], "train"])


def _counted(log: Path, gate: float) -> Callable[[], None]:
    """Log each training that really runs; and let all processes begin together."""

    def install() -> None:
        from punie.train.loop import Trained, Training

        real = Training.run

        def counted(training: Training) -> Trained:
            with log.open("a") as stream:
                stream.write(f"{os.getpid()}\n")
            return real(training)

        Training.run = counted  # ty: ignore[invalid-assignment]
        time.sleep(max(0.0, gate - time.monotonic()))

    return install
