"""Ctrl-C and SIGTERM, at random moments of runs and sweeps: a clean stop, and the word how to go on."""

from __future__ import annotations

import functools
import shlex
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.conftest import read_json
from tests.faults.forks import Ended
from tests.faults.invariants import violations
from tests.faults.kills import again
from tests.faults.report import Case
from tests.faults.world import AXES, BEHIND, QUICK, STAGES, Place, World

_INTERRUPTED = 130
_PATIENCE = 60.0
"""Seconds that a clean stop may take, on a machine that is busy with other work."""
_EVALUATIONS = 4
"""Of the sweep."""


def cases(world: World, count: int) -> Iterator[Case]:
    """Both signals in turn, to a run in every stage and to a sweep."""
    for number in range(count):
        kind = (signal.SIGINT, signal.SIGTERM)[number % 2]
        where = (*STAGES, "sweep")[number % (len(STAGES) + 1)]
        yield Case(f"{kind.name} in {where}", functools.partial(_interrupt, world, where, kind))


def _interrupt(
    world: World, where: str, kind: signal.Signals, random: Random, figures: Counter[str]
) -> Iterator[str]:
    sweep = where == "sweep"
    place = world.place("signals", BEHIND.get(where, ()))
    command = (*AXES, *QUICK) if sweep else QUICK
    attempt = place.start(*command)
    ended = attempt.wait_until(lambda: bool(_records(place, sweep)))
    if ended is None:
        time.sleep(random.uniform(0, 4.0 if sweep else 1.0))
        if (ended := attempt.poll()) is None:
            answered = len(list(place.cwd.glob("outputs/store/evaluate/*/manifest.json")))
            attempt.signal(kind)
            ended = attempt.wait(timeout=_PATIENCE)
            if ended.code == 0 and answered < (_EVALUATIONS if sweep else 1):
                yield f"lost: the signal; it came after {answered} evaluations, and the rest went on"
    if ended.code == 0:
        figures["came too late"] += 1
    else:
        figures["clean stops"] += 1
        yield from _clean(place, ended, sweep)
    yield from violations(place, world)
    if ended.code and "next     " in ended.text:
        said = ended.text.rsplit("next     ", 1)[1].splitlines()[0]
        went_on = place.run(*shlex.split(said.removeprefix("punie ")))
        if went_on.code != 0:
            yield f"lost: what was said to go on with ends with {went_on.code}: {went_on.text[-400:]}"
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
