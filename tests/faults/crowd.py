"""Several processes that want the same training at the same moment."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tests.faults.calls import build
from tests.faults.invariants import violations
from tests.faults.report import Case
from tests.faults.world import BEHIND, World

MOST = 8


def cases(world: World, count: int) -> Iterator[Case]:
    """Rounds of eight processes; every tenth is of two to seven."""
    for number in range(count):
        yield Case("processes on one key", functools.partial(_round, world, number % 10 == 9))


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
    """Count what is really trained, below everything that could decide not to; and begin together."""

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
