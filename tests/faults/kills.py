"""kill -9 of a whole process group, at random moments of every stage and of sweeps."""

from __future__ import annotations

import functools
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from random import Random

from tests.conftest import read_json
from tests.faults.invariants import violations
from tests.faults.report import Case
from tests.faults.world import AXES, BEHIND, QUICK, STAGES, Place, World

_SWEEPS = 5
"""One case in so many is a sweep."""
_TRIES = 6
"""How often a run is begun for one kill: it may end before the moment comes."""


def cases(world: World, count: int) -> Iterator[Case]:
    """As many kills as are asked for, spread evenly over the stages and the sweep."""
    for number in range(count):
        if number % _SWEEPS == _SWEEPS - 1:
            yield Case("sweep", functools.partial(_sweep, world))
        else:
            stage = STAGES[(number - number // _SWEEPS) % len(STAGES)]
            yield Case(stage, functools.partial(_stage, world, stage))


def _stage(world: World, stage: str, random: Random, figures: Counter[str]) -> Iterator[str]:
    """Kill a run once a stage has begun, or once its manifest is being written; then run again."""
    publishing = random.random() < 0.3
    sign = f".building/{stage}-*/manifest.json" if publishing else f".building/{stage}-*"
    moment = random.uniform(0, 0.004) if publishing else random.uniform(0, world.seconds(stage))
    place, killed = _killed(
        lambda: world.place("kill", BEHIND[stage]), (), lambda at: any(at.store.root.glob(sign)), moment
    )
    figures["kills" if killed else "missed"] += 1
    if killed:
        figures[f"kills in {_at(place)}"] += 1
    yield from violations(place, world)
    yield from again(place, world)


def _killed(
    make: Callable[[], Place], command: Sequence[str], begun: Callable[[Place], bool], moment: float
) -> tuple[Place, bool]:
    """Kill a command at a moment after it has begun: once more and sooner, elsewhere, if it ended first."""
    for _ in range(_TRIES):
        place = make()
        attempt = place.start(*command)
        ended = attempt.wait_until(lambda at=place: begun(at))
        if ended is None:
            time.sleep(moment)
            attempt.signal(signal.SIGKILL)
            ended = attempt.wait()
        if ended.code == -signal.SIGKILL:
            return place, True
        moment /= 4  # the machine may be quicker now than it was undisturbed
    return place, False


def _at(place: Place) -> str:
    """The stage that the last run was at when it ended."""
    return read_json(place.runs()[-1] / "status.json").get("at") or "start"


def again(place: Place, world: World, finished: Collection[str] = STAGES) -> Iterator[str]:
    """Give the command once more: it goes through, and everything is as if nothing had happened.

    Args:
        place: Where something was broken.
        world: What it is held against.
        finished: The stages that must be there then.
    """
    ended = place.run()
    if ended.code != 0:
        yield f"lost: the command given again ends with {ended.code}: {ended.text[-400:]}"
    else:
        yield from violations(place, world, finished=finished)


def _sweep(world: World, random: Random, figures: Counter[str]) -> Iterator[str]:
    """Kill a sweep, at any moment of it, and resume it."""
    behind = BEHIND["train"] if random.random() < 0.5 else ()
    place, killed = _killed(
        lambda: world.place("sweep", behind),
        (*AXES, *QUICK),
        lambda at: bool(at.sweeps()),
        random.uniform(0, 4.0),
    )
    figures["kills" if killed else "missed"] += 1
    figures["kills in sweep"] += killed
    yield from violations(place, world)
    (folder,) = place.sweeps()
    ended = place.run("resume", str(folder))
    if ended.code != 0:
        yield f"lost: resume ends with {ended.code}: {ended.text[-400:]}"
        return
    calm = read_json(world.swept.sweeps()[0] / "sweep.json")["digest"]
    if read_json(folder / "sweep.json")["digest"] != calm:
        yield "wrong: the sweep's digest is another"
    yield from violations(place, world)
    yield from again(place, world)
