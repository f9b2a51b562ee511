"""Each call that changes a file fails in turn: ENOSPC, EIO, EINTR, a kill, a power loss."""

from __future__ import annotations

import functools
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

from tests.faults.forks import Ended, front_door
from tests.faults.invariants import violations
from tests.faults.layer import FAULTS, HANDLES, KILLS, POWER, Layer
from tests.faults.report import Case
from tests.faults.stops import again
from tests.faults.world import BEHIND, QUICK, STAGES, Place, World

_ALL = (*STAGES, "tokens")
SCOPES = {**dict.fromkeys(STAGES, "outputs/store"), "run": "outputs/runs", "sweep": "outputs/sweeps"}
"""What is being done, and the folder below which its calls count: a stage is built; with every stage in the
store, a run makes its directory; likewise, a sweep of one job."""
_EMPTYING = {"gc": "outputs/store"}
"""Likewise: every artifact is deleted."""


def cases(
    world: World, count: int, faults: Sequence[str] = FAULTS, scopes: Iterable[str] = SCOPES
) -> Iterator[Case]:
    """Each call of each scope with each fault; of those, as many as are asked for, evenly spread."""
    if not HANDLES.exists():
        print("  calls: skipped: this system does not tell what an open file is called")
        return
    found = [
        Case(f"{scope}: {fault} at {site}", functools.partial(_fail, world, scope, nth, fault))
        for fault in faults
        for scope in scopes
        for nth, site in enumerate(_sites(world, scope))
    ]
    step = max(len(found) / count, 1)
    yield from (found[int(number * step)] for number in range(min(count, len(found))))


def power(world: World, count: int) -> Iterator[Case]:
    """Each call of each scope, the power cut right before it; likewise as many as are asked for."""
    return cases(world, count, (POWER,))


def emptying(world: World, count: int) -> Iterator[Case]:
    """Each call of ``store gc`` that deletes everything, failed and killed; likewise."""
    return cases(world, count, scopes=_EMPTYING)


@functools.cache
def _sites(world: World, scope: str) -> list[str]:
    """The calls of a scope, by what an undisturbed process does."""
    place = _place(world, scope)
    ended = place.fork(_work(scope), _layer(place, scope)).wait()
    assert ended.code == 0, ended.text
    return _record(place).read_text().splitlines()


def _fail(
    world: World, scope: str, nth: int, fault: str, random: Random, figures: Counter[str]
) -> Iterator[str]:
    place = _place(world, scope)
    ended = place.fork(_work(scope), _layer(place, scope, nth, fault)).wait()
    kill = fault.startswith(KILLS)
    if len(_record(place).read_text().splitlines()) <= nth:
        figures["not reached"] += 1
        return
    figures["I/O faults" if not kill else "power losses" if fault == POWER else "crash points"] += 1
    found = [*_told(place, world, scope, ended, kill), *_repaired(place, world, scope)]
    figures["undetected"] += bool(found)
    yield from found


def _told(place: Place, world: World, scope: str, ended: Ended, kill: bool) -> Iterator[str]:
    """Whoever met an error says so, and whoever says nothing has what it was for."""
    if kill != (ended.code == -signal.SIGKILL) or ended.code > 1:
        yield f"wrong: it ended with {ended.code}: {ended.text[-400:]}"
    if "Traceback" in ended.text or (ended.code == 1 and not ended.text.strip()):
        yield f"wrong: no message for people: {ended.text[-1500:]}"
    yield from violations(place, world, finished=())
    if ended.code == 0 and scope in STAGES and place.store.find(scope, world.key(scope)) is None:
        yield "wrong: success without its artifact"
    if ended.code == 0 and scope == "run" and not place.runs("finished"):
        yield "wrong: success without its run directory"
    if ended.code == 0 and scope in _EMPTYING and [*place.store.artifacts(), *place.store.leftovers()]:
        yield "wrong: success without deleting"


def _repaired(place: Place, world: World, scope: str) -> Iterator[str]:
    """The same again goes through, and leaves what an undisturbed one would have left."""
    if scope == "run":
        yield from again(place, world)
        return
    if scope in _EMPTYING:  # what is gone and not needed for what is left stays away
        yield from again(place, world, finished=("report",))
        return
    if scope == "sweep" and place.sweeps():
        ended = place.run("resume", str(place.sweeps()[0]))
    else:
        ended = place.fork(_work(scope)).wait()
    if ended.code != 0:
        yield f"lost: the same again ends with {ended.code}: {ended.text[-400:]}"
    yield from violations(place, world, finished=[*BEHIND.get(scope, STAGES), *({scope} & set(STAGES))])


def _place(world: World, scope: str) -> Place:
    return world.place("calls", BEHIND.get(scope, _ALL))


def _work(scope: str) -> Callable[[], int]:
    if scope == "run":
        return front_door(*QUICK)
    if scope == "sweep":
        return front_door("-m", *QUICK, "seed=0")
    if scope in _EMPTYING:
        return front_door("store", "gc", "--older-than", "0", "--referenced", "--delete")
    return build(scope)


def build(stage: str) -> Callable[[], int]:
    """What builds one stage, as ``punie.sweep.campaign`` has its checks built."""

    def work() -> int:
        from punie.config import resolve
        from punie.config.compose import compose
        from punie.run import pipeline
        from punie.store.artifacts import Store
        from punie.util.errors import PunieError
        from punie.util.progress import Reporter

        config = resolve(compose(list(QUICK)))
        store = Store(Path(config.store.dir))
        try:
            pipeline.run(pipeline.plan(config, store), config, store, Reporter(), wanted=(stage,))
        except (PunieError, OSError) as error:  # what the front door takes for an error of the user's world
            print(error)
            return 1
        return 0

    return work


def _layer(place: Place, scope: str, nth: int | None = None, fault: str = "EIO") -> Callable[[], None]:
    return lambda: Layer(place.cwd / (SCOPES | _EMPTYING)[scope], _record(place), nth, fault).install()


def _record(place: Place) -> Path:
    return place.cwd.with_suffix(".calls")
