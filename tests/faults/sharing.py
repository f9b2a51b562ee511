"""One store for several: gc beside runs, two users, two checkouts, and stages on filesystems of their own."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from punie.results.run import Run
from tests.faults.filesystems import mounted
from tests.faults.forks import Attempt, front_door
from tests.faults.invariants import violations
from tests.faults.report import Case
from tests.faults.stops import again
from tests.faults.world import BEHIND, STAGES, World

_EVERYTHING = (*STAGES, "tokens")
_GC = ("store", "gc", "--older-than", "0", "--delete")
_USERS, _GROUP = (64001, 64002), 64000
"""Made-up users of one group."""
_MODULE = "evals/scorers.py"
_EDITS = (
    ("return Score(value, f", "return Score(value / 2 + 0.1, f"),
    ('"""One score of one response."""', ""),
)
"""Of a checkout: one that gives other scores, and one of words alone."""


def collecting(world: World, count: int) -> Iterator[Case]:
    """Runs, and gc at random moments of them; some of the store's stages are missing in each."""
    for number in range(count):
        missing = (None, *STAGES)[number % (len(STAGES) + 1)]
        yield Case(
            f"gc beside a run without {missing or 'nothing'}", functools.partial(_collect, world, missing)
        )


def users(world: World, count: int) -> Iterator[Case]:
    """One user's run is killed in each stage in turn, and another user goes on; none where nobody is root."""
    if sys.platform != "linux" or os.getuid() != 0:
        print("  users: skipped: only root on Linux can be two users")
        return
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        yield Case(f"two users, {stage}", functools.partial(_two_users, world, stage))


def checkouts(world: World, count: int) -> Iterator[Case]:
    """An edited checkout and a clean one on one store, at once and one after the other."""
    for number in range(count):
        yield Case(
            "two checkouts", functools.partial(_two_checkouts, world, _EDITS[number // 2 % 2], number % 2)
        )


def spread(world: World, count: int) -> Iterator[Case]:
    """Kills in a stage that has a filesystem of its own, by a mount or a link, or gets one after the kill."""
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        how = ("mount", "link", "link after")[(number + number // len(STAGES)) % 3]
        yield Case(f"{stage} by a {how}", functools.partial(_spread, world, stage, how))


def _collect(world: World, missing: str | None, random: Random, figures: Counter[str]) -> Iterator[str]:
    place = world.place("collect", BEHIND[missing] if missing else _EVERYTHING)
    place.store.root.mkdir(parents=True, exist_ok=True)
    attempts = [place.start()]
    for number in range(3):
        time.sleep(random.uniform(0, 0.7))
        attempts.append(place.fork(front_door(*_GC), name=f"gc{number}"))
    yield from _ended(attempts)
    figures["runs"] += 1
    deleted = sum("deleted 0 artifacts" not in each.output.read_text() for each in attempts[1:])
    figures["gc that deleted"] += deleted
    yield from violations(place, world)
    yield from _ended([place.start(*_GC)])
    yield from violations(place, world)  # of a finished run nothing is gone
    yield from again(place, world, finished=("report",))


def _two_users(world: World, stage: str, random: Random, figures: Counter[str]) -> Iterator[str]:
    place = world.place("users", copied=BEHIND[stage])
    for path in (place.cwd, *place.cwd.rglob("*")):
        os.chown(path, _USERS[0], _GROUP)
        path.chmod(0o2775 if path.is_dir() else 0o664)
    first, second = (functools.partial(_become, user) for user in random.sample(_USERS, 2))
    attempt = place.start(first=first)
    if attempt.wait_until(lambda: place.building(stage)) is None:
        time.sleep(random.uniform(0, world.seconds(stage)))
        with contextlib.suppress(ProcessLookupError):
            attempt.signal(signal.SIGKILL)
        attempt.wait()
    figures["runs"] += 2
    damaged = random.choice([*place.store.artifacts()] or [None]) if random.random() < 0.5 else None
    if damaged is not None:
        figures["damaged"] += 1
        (damaged.path / "manifest.json").write_text("{")
        place.run("store", "verify", first=second)
    yield from _ended([place.start(first=second)])
    yield from violations(place, world, finished=STAGES)
    for path in place.store.root.rglob("*"):
        if path.is_file() and path.stat().st_uid in _USERS and not path.stat().st_mode & 0o020:
            yield f"wrong: the group cannot write {path}"
    yield from _ended([place.start(*_GC, "--referenced", first=first), place.start(first=second)])
    yield from violations(place, world)
    yield from _ended([place.start(first=first)])
    yield from violations(place, world, finished=STAGES)


def _two_checkouts(
    world: World, edit: tuple[str, str], together: int, random: Random, figures: Counter[str]
) -> Iterator[str]:
    place = world.place("checkouts", BEHIND["evaluate"])
    package = place.cwd / "checkout"
    shutil.copytree(Path(importlib.import_module("punie").__file__ or "").parent, package)
    text = (package / _MODULE).read_text("utf-8")
    assert edit[0] in text
    (package / _MODULE).write_text(text.replace(*edit), "utf-8")
    decides = edit[1] != ""
    starts = [functools.partial(place.start, first=functools.partial(_check_out, package)), place.start]
    random.shuffle(starts)
    attempts = [starts[0]()]
    if not together:
        yield from _ended(attempts)
    yield from _ended([*attempts, starts[1]()] if together else [starts[1]()])
    figures["runs"] += 2
    scores = {_keyword(run) for run in place.runs("finished")}
    known = _keyword(world.calm.runs()[0])
    if known not in scores or len(scores) != 1 + decides:
        yield f"wrong: the scores are {scores}, undisturbed {known}"
    made = len([*place.store.artifacts("evaluate")])
    if made != 1 + decides:
        yield f"wrong: {made} evaluations"
    yield from again(place, world)
    if _keyword(place.runs("finished")[-1]) != known:
        yield "wrong: the clean checkout has the score of the edited one"


def _spread(world: World, stage: str, how: str, random: Random, figures: Counter[str]) -> Iterator[str]:
    place, disk = world.place("spread", BEHIND[stage]), world.folder / "disk"
    folder = place.store.root / stage
    disk.mkdir(exist_ok=True)
    place.store.root.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as held:
            if how == "mount":
                folder.mkdir()
                held.enter_context(mounted(folder))
            else:
                held.enter_context(mounted(disk))
            if how == "link":
                folder.symlink_to(disk)
            attempt = place.start()
            if attempt.wait_until(lambda: place.building(stage)) is None:
                time.sleep(random.uniform(0, world.seconds(stage)))
                with contextlib.suppress(ProcessLookupError):
                    attempt.signal(signal.SIGKILL)
                attempt.wait()
            figures["kills"] += 1
            if how == "link after":
                if folder.exists():
                    shutil.copytree(folder, disk, dirs_exist_ok=True)
                    shutil.rmtree(folder)
                folder.symlink_to(disk)
            yield from violations(place, world)
            yield from again(place, world)
            yield from _ended([place.start("store", "verify"), place.start(*_GC)])
            yield from again(place, world, finished=("report",))
    except (PermissionError, subprocess.CalledProcessError) as error:
        print(f"  spread: skipped: {error}")


def _ended(attempts: list[Attempt]) -> Iterator[str]:
    """All of them succeed."""
    for attempt in attempts:
        ended = attempt.wait()
        if ended.code != 0 or "Traceback" in ended.text:
            yield f"wrong: one ended with {ended.code}: {ended.text[-1500:]}"


def _keyword(run: Path) -> float:
    value = Run(run).results.find("keyword")
    assert value is not None
    return value


def _become(user: int) -> None:
    """Be a user of the group, with its umask, who can read everything, as where Python is root's alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    keep, ambient, read_search = 8, 47, 2  # PR_SET_KEEPCAPS, PR_CAP_AMBIENT, CAP_DAC_READ_SEARCH
    os.umask(0o002)
    os.setgroups([])
    os.setresgid(_GROUP, _GROUP, _GROUP)
    libc.prctl(keep, 1, 0, 0, 0)
    os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(*[1 << read_search] * 3, 0, 0, 0)
    if libc.capset(header, data) or libc.prctl(ambient, 2, read_search, 0, 0):
        raise OSError(ctypes.get_errno(), "capset")


def _check_out(package: Path) -> None:
    """Be a process of another checkout: its sources are those of the package, and its scorers run."""
    from punie.evals import scorers
    from punie.store import sources

    sources._PACKAGE = package
    sources.present.cache_clear()
    edited: dict[str, Any] = {"__name__": scorers.__name__}
    exec((package / _MODULE).read_text("utf-8"), edited)
    scorers.keyword.__code__ = edited["keyword"].__code__
