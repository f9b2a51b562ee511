"""kill -9, Ctrl-C and SIGTERM at random moments of every stage and of sweeps."""

from __future__ import annotations

import functools
import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from random import Random

from tests.conftest import read_json
from tests.faults.forks import Ended
from tests.faults.invariants import violations
from tests.faults.report import Case
from tests.faults.world import AXES, BEHIND, QUICK, STAGES, Place, World

_SWEEPS = 5
"""One kill in so many hits a sweep."""
_TRIES = 6
"""Attempts for one kill: a run may end before the moment comes."""
_INTERRUPTED = 130
_PATIENCE = 60.0
"""Seconds that a clean stop may take on a busy machine."""
_EVALUATIONS = 4
"""Of the sweep."""


def kills(world: World, count: int) -> Iterator[Case]:
    """Kills, spread evenly over the stages and the sweep."""
    for number in range(count):
        if number % _SWEEPS == _SWEEPS - 1:
            yield Case("sweep", functools.partial(_kill_sweep, world))
        else:
            stage = STAGES[(number - number // _SWEEPS) % len(STAGES)]
            yield Case(stage, functools.partial(_kill_stage, world, stage))


def signals(world: World, count: int) -> Iterator[Case]:
    """Both signals in turn, to a run in every stage and to a sweep."""
    for number in range(count):
        kind = (signal.SIGINT, signal.SIGTERM)[number % 2]
        where = (*STAGES, "sweep")[number % (len(STAGES) + 1)]
        yield Case(f"{kind.name} in {where}", functools.partial(_interrupt, world, where, kind))


def again(place: Place, world: World, finished: Collection[str] = STAGES) -> Iterator[str]:
    """Give the command once more: it succeeds, and the results are those of an undisturbed run.

    Args:
        place: Where something was broken.
        world: The undisturbed runs.
        finished: The stages that must be in the store then.
    """
    ended = place.run()
    if ended.code != 0:
        yield f"lost: the command given again ends with {ended.code}: {ended.text[-400:]}"
    else:
        yield from violations(place, world, finished=finished)


def _kill_stage(world: World, stage: str, random: Random, figures: Counter[str]) -> Iterator[str]:
    """Kill a run once a stage has begun, or once its manifest is being written; then run again."""
    publishing = random.random() < 0.3
    sign = f".building/{stage}-*/manifest.json" if publishing else f".building/{stage}-*"
    moment = random.uniform(0, 0.004) if publishing else random.uniform(0, world.seconds(stage))
    place, killed = _killed(
        lambda: world.place("kill", BEHIND[stage]),
        (),
        lambda at: any(at.store.root.glob(sign)),
        moment,
        lambda at: publishing or at.building(stage),
    )
    figures["kills" if killed else "missed"] += 1
    if killed:
        at = read_json(place.runs()[-1] / "status.json").get("at") or "start"
        figures[f"kills in {at}"] += 1
    yield from violations(place, world)
    yield from again(place, world)


def _kill_sweep(world: World, random: Random, figures: Counter[str]) -> Iterator[str]:
    """Kill a sweep, at any moment of it, and resume it."""
    behind = BEHIND["train"] if random.random() < 0.5 else ()
    moment = random.uniform(0, 4.0)
    place, killed = _killed(
        lambda: world.place("sweep", behind), (*AXES, *QUICK), lambda at: bool(at.sweeps()), moment
    )
    figures["kills" if killed else "missed"] += 1
    figures["kills in sweep"] += killed
    yield from violations(place, world)
    (folder,) = place.sweeps()
    ended = place.run("resume", str(folder))
    if ended.code != 0:
        yield f"lost: resume ends with {ended.code}: {ended.text[-400:]}"
        return
    calm = read_json(world.calm.sweeps()[0] / "sweep.json")["digest"]
    if read_json(folder / "sweep.json")["digest"] != calm:
        yield "wrong: the sweep has another digest"
    yield from violations(place, world)
    yield from again(place, world)


def _killed(
    make: Callable[[], Place],
    command: Sequence[str],
    begun: Callable[[Place], bool],
    moment: float,
    within: Callable[[Place], bool] = lambda _: True,
) -> tuple[Place, bool]:
    """Kill a command some time after it has begun; if that was too late, try again elsewhere, and sooner."""
    for _ in range(_TRIES):
        place = make()
        attempt = place.start(*command)
        ended = attempt.wait_until(lambda at=place: begun(at))
        if ended is None:
            time.sleep(moment)
            attempt.signal(signal.SIGKILL)
            ended = attempt.wait()
        killed = ended.code == -signal.SIGKILL
        if killed and within(place):
            break
        moment /= 4
    return place, killed


def _interrupt(
    world: World, where: str, kind: signal.Signals, random: Random, figures: Counter[str]
) -> Iterator[str]:
    """Send a signal: a clean stop, and a command that goes on."""
    sweep = where == "sweep"
    place = world.place("signals", BEHIND.get(where, ()))
    attempt = place.start(*((*AXES, *QUICK) if sweep else QUICK))
    ended = attempt.wait_until(lambda: bool(_records(place, sweep)))
    if ended is None:
        time.sleep(random.uniform(0, 4.0 if sweep else 1.0))
        if (ended := attempt.poll()) is None:
            evaluated = len(list(place.cwd.glob("outputs/store/evaluate/*/manifest.json")))
            attempt.signal(kind)
            ended = attempt.wait(timeout=_PATIENCE)
            if ended.code == 0 and evaluated < (_EVALUATIONS if sweep else 1):
                yield f"lost: the signal; it came after {evaluated} evaluations, and the rest went on"
    figures["clean stops" if ended.code else "came too late"] += 1
    if ended.code:
        yield from _clean(place, ended, sweep)
    yield from violations(place, world)
    if ended.code and "next     " in ended.text:
        said = ended.text.rsplit("next     ", 1)[1].splitlines()[0]
        went_on = place.run(*shlex.split(said.removeprefix("punie ")))
        if went_on.code != 0:
            yield f"lost: the printed command ends with {went_on.code}: {went_on.text[-400:]}"
    yield from again(place, world)


def _clean(place: Place, ended: Ended, sweep: bool) -> Iterator[str]:
    if ended.code != _INTERRUPTED or "Traceback" in ended.text:
        yield f"wrong: it ends with {ended.code}: {ended.text[-1500:]}"
    if "next     " not in ended.text:
        yield f"wrong: it does not say how to go on: {ended.text[-400:]}"
    states = [read_json(path)["status"] for path in _records(place, sweep)]
    if states != ["interrupted"]:
        yield f"wrong: its status is {states}"


def _records(place: Place, sweep: bool) -> list[Path]:
    return list(place.cwd.glob(f"outputs/{'sweeps' if sweep else 'runs'}/*/*/status.json"))
