"""A campaign over launchers that misbehave; jobs are files that say how they ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from filelock import FileLock

from punie.results import files
from punie.results.records import Status
from punie.results.run import STATUS, read_status
from punie.results.sweep import PlannedJob, SweepPlan
from punie.sweep import campaign, job, summary
from punie.sweep.campaign import Campaign, Launch, SweepEnded
from punie.util.errors import PunieError
from tests.unit.results.made import results
from tests.unit.sweep.conftest import Planner


class World:
    """A launcher whose jobs end as told."""

    def __init__(self, plan: SweepPlan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.batches: list[list[int]] = []
        self.ends: dict[int, list[str]] = {}
        """For each job how its attempts end; ``finished`` if nothing is said."""

    def launch(self, batch: Sequence[Sequence[str]], _first: int) -> None:
        subdirs = [overrides[-1].removeprefix("hydra.sweep.subdir=") for overrides in batch]
        jobs = [self.plan.by_folder[Path(name).name] for name in subdirs]
        self.batches.append([one.number for one in jobs])
        killed = [one for one in jobs if self.end(one) == "worker killed"]
        for one in jobs:
            self.run(one)
        for one in killed:
            self.ends[one.number].pop(0)
        if killed:
            raise RuntimeError("a worker was terminated")

    def end(self, one: PlannedJob) -> str:
        return (self.ends.get(one.number) or ["finished"])[0]

    def run(self, one: PlannedJob) -> None:
        place, end = self.folder / one.folder, self.end(one)
        place.mkdir(parents=True, exist_ok=True)
        if end == "finished":
            files.write(place / "results.json", results(0.5))
        state = "running" if end in ("interrupt", "worker killed") else end
        error = None if end == "finished" else "it went wrong"
        files.write(place / STATUS, Status(version=1, status=state, at="train", error=error))
        if end == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)

    def states(self) -> list[str]:
        return [one.status(self.folder).status for one in self.plan.jobs]


@pytest.fixture
def world(planned: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two seeds at two temperatures: waves of jobs 0 and 2, then 1 and 3."""
    monkeypatch.setattr(campaign, "prepared", lambda *_: nullcontext())
    plan = planned("seed=0,1", "eval.temperature=0.0,0.5")
    assert plan.waves == [[0, 2], [1, 3]]
    (tmp_path / "sweep").mkdir()
    return World(plan, tmp_path / "sweep")


def ended(world: World, launch: Launch | None = None) -> PunieError | None:
    """Run the campaign; how it ended."""
    try:
        Campaign(world.plan, world.folder, launch or world.launch).run()
    except PunieError as error:
        return error
    return None


def exit_code(error: PunieError | None) -> int:
    assert isinstance(error, SweepEnded)
    return error.exit_code


@pytest.mark.parametrize(
    ("ends", "states", "batches"),
    [
        ({0: ["failed"]}, ["failed", "skipped", "finished", "finished"], [[0, 2], [3]]),
        (
            {0: ["worker killed", "worker killed"], 2: ["worker killed"]},
            ["killed", "skipped", "finished", "finished"],
            [[0, 2], [0], [2], [3]],
        ),
    ],
    ids=["failed", "killed"],
)
def test_a_job_takes_only_its_dependents_along(
    world: World, ends: dict[int, list[str]], states: list[str], batches: list[list[int]]
) -> None:
    """Job 1, which needs the training of job 0, is skipped; a job lost with its worker runs again alone."""
    world.ends = ends
    assert exit_code(ended(world)) == 1
    assert (world.states(), world.batches) == (states, batches)
    assert "upstream: train failed in 000" in (world.plan.jobs[1].status(world.folder).error or "")


def test_a_launcher_that_starts_nothing_is_told(world: World) -> None:
    """A launcher that raises before any job begins, or returns without one, ends the sweep, not in a loop."""

    def launch(*_: object) -> None:
        raise OSError("no such queue")

    assert "no such queue" in str(ended(world, launch))
    assert read_status(world.folder).status == "failed"
    assert "no job has a status" in str(ended(world, lambda *_: None))


def test_a_job_that_outlives_its_launcher_is_waited_for(world: World) -> None:
    """The launcher gives up while job 2 still runs elsewhere: its end counts, and it is not run twice."""
    place = world.folder / world.plan.jobs[2].folder
    place.mkdir(parents=True)
    lock = FileLock(place / job.LOCK, thread_local=False)

    def launch(batch: Sequence[Sequence[str]], first: int) -> None:
        if world.batches:
            return world.launch(batch, first)
        world.ends[2] = ["worker killed"]
        lock.acquire()
        threading.Timer(1.0, finish).start()
        return world.launch(batch, first)

    def finish() -> None:
        world.ends[2] = ["finished"]
        world.run(world.plan.jobs[2])
        lock.release()

    assert ended(world, launch) is None
    assert world.batches == [[0, 2], [1, 3]]


def test_an_interrupted_sweep_says_how_to_go_on(world: World) -> None:
    """Ctrl-C in job 2: it is interrupted, the rest is not started, exit code 130; going on finishes all."""
    world.ends[2] = ["interrupt"]
    error = ended(world)
    assert exit_code(error) == 130
    assert "punie resume" in str(error)
    assert world.states() == ["finished", "planned", "interrupted", "planned"]
    assert read_status(world.folder).status == "interrupted"
    del world.ends[2]
    assert ended(world) is None
    assert world.batches == [[0, 2], [2], [1, 3]]


def test_the_summary_is_the_same_after_an_interruption(world: World) -> None:
    """Both waves run once; what was measured has the same digest after a job is lost and run again."""
    assert ended(world) is None
    assert world.batches == [[0, 2], [1, 3]]
    assert read_status(world.folder).status == "finished"
    whole = summary.collect(world.plan, world.folder).digest
    (world.folder / world.plan.jobs[2].folder / STATUS).unlink()
    assert summary.collect(world.plan, world.folder).digest != whole
    assert ended(world) is None
    assert summary.collect(world.plan, world.folder).digest == whole


def test_jobs_below_their_gate_give_exit_code_3(world: World) -> None:
    """All finished and one below eval.fail_under: the sweep ends with 3, and a failure beside it with 1."""
    gated = world.folder / world.plan.jobs[3].folder

    def launch(batch: Sequence[Sequence[str]], first: int) -> None:
        world.launch(batch, first)
        if (gated / STATUS).exists():
            job.end(gated, "failed", "below eval.fail_under", job.GATE)

    assert (exit_code(ended(world, launch)), world.states()) == (3, ["finished"] * 4)


def test_fail_fast_starts_no_further_wave(world: World) -> None:
    """A stop left by a job with sweep.fail_fast keeps the second wave from being launched."""

    def launch(batch: Sequence[Sequence[str]], first: int) -> None:
        world.launch(batch, first)
        (world.folder / job.STOP).touch()

    world.ends[2] = ["failed"]
    ended(world, launch)
    assert world.batches == [[0, 2]]
    assert world.states() == ["finished", "skipped", "failed", "skipped"]
