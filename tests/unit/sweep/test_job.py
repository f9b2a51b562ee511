"""A job's end, however it comes, is in its folder and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from punie.results import files
from punie.results.records import Status
from punie.results.run import STATUS, read_status
from punie.run.directory import is_locked
from punie.sweep import job
from punie.sweep.plan import freeze
from punie.util.errors import ConfigError, GateError, PunieError
from tests.unit.sweep.conftest import Planner

FOLDER = "sweep/jobs/000"
FINISHED = Status(version=1, status="finished")


class Unpicklable(Exception):
    """Holds what no process can send to another."""

    def __init__(self) -> None:
        super().__init__("it cannot be pickled")
        self.lock = threading.Lock()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[float | None, Status]]:
    """Runs a job, in its folder of a sweep, whose task is replaced; returns its result and its status."""

    def call(
        task: Callable[..., object], config: Any = (), folder: Path = tmp_path / FOLDER
    ) -> tuple[float | None, Status]:
        folder.mkdir(parents=True, exist_ok=True)
        runtime = SimpleNamespace(cwd=".", output_dir=str(folder))
        found = SimpleNamespace(runtime=runtime, job=SimpleNamespace(env_set={}))
        hydra = SimpleNamespace(get=lambda: found)
        monkeypatch.setattr(job, "HydraConfig", hydra)
        monkeypatch.setattr(job, "task", task)
        returned = job.run_job(OmegaConf.create(dict(config)))
        return returned, read_status(folder)

    return call


def raising(error: BaseException) -> Callable[..., object]:
    def task(*_: object, **__: object) -> object:
        raise error

    return task


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
def test_nothing_gets_out_of_a_job(run: Any, tmp_path: Path, error: BaseException, status: str) -> None:
    """Whatever is raised becomes a status, a message and a traceback in the folder, and returns None."""
    returned, record = run(raising(error))
    assert (returned, record.status, record.exit_code) == (None, status, 1)
    assert str(error) in (record.error or "")
    assert type(error).__name__ in (tmp_path / FOLDER / job.TRACEBACK).read_text()


def test_an_interrupted_sweep_gets_out(run: Any, tmp_path: Path) -> None:
    """The sweep's own interruption is recorded and goes on up."""
    with pytest.raises(job.SweepInterrupted):
        run(raising(job.SweepInterrupted()))
    assert read_status(tmp_path / FOLDER).status == "interrupted"


def test_a_run_below_its_gate_is_finished(run: Any, tmp_path: Path) -> None:
    """An error with exit code 3 after a complete run leaves it finished, with the code."""

    def task(*_: object, **__: object) -> None:
        files.write(tmp_path / FOLDER / STATUS, FINISHED)
        raise GateError("below")

    _, record = run(task)
    assert (record.status, record.exit_code, record.error) == ("finished", job.GATE, "below")


def test_a_job_runs_once(run: Any, tmp_path: Path) -> None:
    """Launched again while it runs, or after it has ended, a job does nothing."""
    ran, folder = [], tmp_path / FOLDER

    def task(*_: object, **__: object) -> float:
        ran.append(is_locked(folder))
        run(task)
        files.write(folder / STATUS, FINISHED)
        return 0.5

    assert not is_locked(folder)
    assert [run(task)[0], run(task)[0]] == [0.5, None]
    assert (ran, is_locked(folder)) == ([True], False)


def test_fail_fast_stops_the_jobs_after(run: Any, tmp_path: Path) -> None:
    """With sweep.fail_fast a failure keeps the next job from starting; without it, it does not."""
    found = []
    for fail_fast in (False, True, True):
        (tmp_path / FOLDER / STATUS).unlink(missing_ok=True)
        found.append(run(raising(ValueError("a bug")), {"sweep": {"fail_fast": fail_fast}})[1].status)
    assert found == ["failed", "failed", "skipped"]


def test_a_job_with_another_config_refuses_to_run(run: Any, planned: Planner, tmp_path: Path) -> None:
    """A config that is not the planned one is refused by name of the field, and nothing is run."""
    plan, ran = planned("seed=0,1"), []
    freeze(plan, tmp_path / "sweep")
    folder, config = tmp_path / "sweep" / plan.jobs[0].folder, dict(plan.jobs[0].config.values)
    edited = {**config, "lora": {**config["lora"], "rank": 4}}
    for given in (config, edited):
        _, record = run(lambda composed, _, **__: ran.append(composed), given, folder)
    assert len(ran) == 1
    assert (record.status, record.exit_code) == ("failed", ConfigError.exit_code)
    assert "lora.rank 8 → 4" in (record.error or "")


def test_a_headline_holds_the_first_problem() -> None:
    """Of a list of problems the first is in the line; of one error its first line."""
    assert job.headline("It cannot start:\n  1. no rows\n  2. no disk") == "It cannot start: no rows"
    assert job.headline("no rows\n  where    here") == "no rows"
