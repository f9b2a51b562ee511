"""kill -9 of a whole process group, at random moments of every stage and of sweeps."""

from __future__ import annotations

import functools
import signal
import time
from collections import Counter
from collections.abc import Iterator
from random import Random

from tests.conftest import read_json
from tests.faults.invariants import violations
from tests.faults.report import Case
from tests.faults.world import AXES, BEHIND, QUICK, STAGES, Place, World

_SWEEPS = 5
"""One case in so many is a sweep."""


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
    for delay in (moment, moment / 4, 0.0):  # the machine may be quicker now than it was undisturbed
        place = world.place("kill", BEHIND[stage])
        attempt = place.start()
        early = attempt.wait_until(lambda at=place.store.root: any(at.glob(sign)))
        if early is None:
            time.sleep(delay)
            attempt.signal(signal.SIGKILL)
            early = attempt.wait()
        if early.code == -signal.SIGKILL:
            break
    if early.code != -signal.SIGKILL:  # so short that it was never seen
        figures["missed"] += 1
    else:
        figures["kills"] += 1
        figures[f"kills in {_at(place)}"] += 1
    yield from violations(place, world)
    yield from again(place, world)


def _at(place: Place) -> str:
    """The stage that the last run was at when it ended."""
    return read_json(place.runs()[-1] / "status.json").get("at") or "start"


def again(place: Place, world: World) -> Iterator[str]:
    """Give the command once more: it goes through, and everything is as if nothing had happened."""
    ended = place.run()
    if ended.code != 0:
        yield f"lost: the command given again ends with {ended.code}: {ended.text[-400:]}"
    else:
        yield from violations(place, world, finished=STAGES)


def _sweep(world: World, random: Random, figures: Counter[str]) -> Iterator[str]:
    """Kill a sweep, at any moment of it, and resume it."""
    place = world.place("sweep", BEHIND["train"] if random.random() < 0.5 else ())
    attempt = place.start(*AXES, *QUICK)
    early = attempt.wait_until(lambda: bool(place.sweeps()))
    if early is None:
        time.sleep(random.uniform(0, 4.0))
        attempt.signal(signal.SIGKILL)
        early = attempt.wait()
    figures["kills" if early.code == -signal.SIGKILL else "missed"] += 1
    figures["kills in sweep"] += early.code == -signal.SIGKILL
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
