"""A job's end, however it comes, is in its folder and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from punie.results import files
from punie.results.records import Status
from punie.results.run import STATUS, read_status
from punie.sweep import job
from punie.sweep.plan import freeze
from punie.util.errors import ConfigError, PunieError
from tests.unit.sweep.conftest import Planner

FINISHED = Status(version=1, status="finished")


class Unpicklable(Exception):
    """Holds what no process can send to another."""

    def __init__(self) -> None:
        super().__init__("it cannot be pickled")
        self.lock = threading.Lock()


class BelowGate(PunieError):
    """What a run raises that is complete and below ``eval.fail_under``."""

    exit_code = job.GATE


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Path]]:
    """Runs a job, in its folder of a sweep, whose task is replaced."""
    folder = tmp_path / "sweep/jobs/000"
    folder.mkdir(parents=True)
    hydra = SimpleNamespace(
        get=lambda: SimpleNamespace(runtime=SimpleNamespace(cwd=".", output_dir=str(folder)))
    )
    monkeypatch.setattr(job, "HydraConfig", hydra)

    def call(task: Callable[..., float], **config: Any) -> tuple[Any, Path]:
        monkeypatch.setattr(job, "task", task)
        return job.run_job(OmegaConf.create(config)), folder

    return call


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PunieError("it is wrong"), "failed"),
        (ValueError("a bug"), "failed"),
        (SystemExit(3), "failed"),
        (Unpicklable(), "failed"),
        (MemoryError(), "failed"),
        (KeyboardInterrupt(), "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_nothing_gets_out_of_a_job(run: Any, error: BaseException, status: str) -> None:
    """Whatever is raised becomes a status, a message and a traceback in the folder, and returns None."""

    def task(*_: Any) -> float:
        raise error

    returned, folder = run(task)
    record = read_status(folder)
    assert (returned, record.status, record.exit_code) == (None, status, 1)
    assert str(error) in (record.error or "")
    assert type(error).__name__ in (folder / job.TRACEBACK).read_text()


def test_an_interrupted_sweep_gets_out(run: Any, tmp_path: Path) -> None:
    """The sweep's own interruption is recorded and goes on up."""

    def task(*_: Any) -> float:
        raise job.SweepInterrupted

    with pytest.raises(job.SweepInterrupted):
        run(task)
    assert read_status(tmp_path / "sweep/jobs/000").status == "interrupted"


def test_a_run_below_its_gate_is_finished(run: Any) -> None:
    """An error with exit code 3 after a complete run leaves it finished, with the code."""

    def task(*_: Any) -> float:
        files.write(folder / STATUS, FINISHED)
        raise BelowGate("below")

    folder = Path(job.HydraConfig.get().runtime.output_dir)
    run(task)
    record = read_status(folder)
    assert (record.status, record.exit_code, record.error) == ("finished", 3, "below")


def test_a_job_runs_once(run: Any) -> None:
    """Launched again while it runs, or after it has ended, a job does nothing."""
    ran = []

    def task(*_: Any) -> float:
        ran.append(1)
        assert job.is_running(folder)
        run(task)
        files.write(folder / STATUS, FINISHED)
        return 0.5

    folder = Path(job.HydraConfig.get().runtime.output_dir)
    assert not job.is_running(folder)
    assert [run(task)[0], run(task)[0]] == [0.5, None]
    assert len(ran) == 1
    assert not job.is_running(folder)


def test_fail_fast_stops_the_jobs_after(run: Any) -> None:
    """With sweep.fail_fast a failure keeps the next job from starting; without it, it does not."""
    ran = []

    def task(*_: Any) -> float:
        ran.append(1)
        raise ValueError("a bug")

    folder = Path(job.HydraConfig.get().runtime.output_dir)
    for fail_fast in (False, True, True):
        (folder / STATUS).unlink(missing_ok=True)
        run(task, sweep={"fail_fast": fail_fast})
    assert len(ran) == 2
    assert read_status(folder).status == "skipped"


def test_a_job_with_another_config_refuses_to_run(
    planned: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config that is not the planned one is refused by name of the field, and nothing is run."""
    plan = planned("seed=0,1")
    freeze(plan, tmp_path / "sweep")
    folder = tmp_path / "sweep" / plan.jobs[0].folder
    hydra = SimpleNamespace(
        get=lambda: SimpleNamespace(runtime=SimpleNamespace(cwd=".", output_dir=str(folder)))
    )
    monkeypatch.setattr(job, "HydraConfig", hydra)
    ran: list[DictConfig] = []
    monkeypatch.setattr(job, "task", lambda composed, _: ran.append(composed))
    folder.mkdir(parents=True)
    edited = OmegaConf.create(dict(plan.jobs[0].config.values))
    job.run_job(edited)
    assert len(ran) == 1
    edited.lora.rank = 4
    job.run_job(edited)
    assert len(ran) == 1
    record = read_status(folder)
    assert (record.status, record.exit_code) == ("failed", ConfigError.exit_code)
    assert "lora.rank 8 → 4" in (record.error or "")


def test_a_headline_holds_the_first_problem() -> None:
    """Of a list of problems the first is in the line; of one error its first line."""
    assert job.headline("It cannot start:\n  1. no rows\n  2. no disk") == "It cannot start: no rows"
    assert job.headline("no rows\n  where    here") == "no rows"
