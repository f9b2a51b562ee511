"""Sweeps of the embedded model: shared, resumable, and finished whatever happens to a job."""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from punie.util.paths import resource
from tests.conftest import FIXTURES, LEAST, read_json
from tests.processes import Finished, Started, punie, start

SHORT = (
    "lora.iters=4",
    "lora.batch_size=2",
    "lora.save_every=2",
    "lora.val_batches=1",
    "eval.max_tokens=8",
    "eval.lock.temperatures=[]",
    "quantize.fidelity_rows=0",
    f"data.path={FIXTURES / 'data'}",
    "data.expected_train=null",
    "data.expected_valid=null",
)
AXES = ("seed=0,1", "eval.temperature=0.0,0.5")
WORKERS = ("hydra/launcher=workers", "hydra.launcher.n_jobs=2")


@dataclass(frozen=True)
class Place:
    """A working folder with a suite of two prompts."""

    cwd: Path

    def sweep(self, *overrides: str) -> Finished:
        return punie(*self.command(*overrides), cwd=self.cwd)

    def command(self, *overrides: str) -> list[str]:
        return ["-m", *SHORT, "eval.suite=suite.jsonl", *overrides]

    def start(self, *overrides: str) -> Started:
        """Begin a sweep."""
        return start(*self.command(*overrides), cwd=self.cwd)

    @property
    def folder(self) -> Path:
        """That of the newest sweep."""
        return max((self.cwd / "outputs/sweeps").glob("*/*"), key=lambda path: path.stat().st_mtime)

    def summary(self) -> dict[str, Any]:
        return read_json(self.folder / "sweep.json")

    def states(self) -> list[str]:
        return [row["status"] for row in self.summary()["jobs"]]

    def job_states(self) -> dict[str, str]:
        """The status of each job that has begun, by folder; the sweep may still be running."""
        found = sorted(self.cwd.glob("outputs/sweeps/*/*/jobs/*/status.json"))
        return {path.parent.name: read_json(path)["status"] for path in found}

    def built(self) -> Counter[str]:
        """How often each stage was built by the jobs of the newest sweep."""
        return Counter(stage for row in self.summary()["jobs"] for stage in row["built"])

    def stored(self, stage: str) -> int:
        return len(list((self.cwd / "outputs/store" / stage).iterdir()))


def place(path: Path) -> Place:
    """A folder to sweep in."""
    suite = resource("data/suites/core27.jsonl").read_text("utf-8").splitlines()
    (path / "suite.jsonl").write_text("\n".join(suite[:2]) + "\n")
    return Place(path)


@pytest.fixture
def fresh(tmp_path: Path) -> Place:
    """An empty store."""
    return place(tmp_path)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Finished]:
    """A sweep that nothing disturbed: two seeds at two temperatures."""
    where = place(tmp_path_factory.mktemp("swept"))
    return where, where.sweep(*AXES)


def test_a_sweep_trains_once_for_each_seed(swept: tuple[Place, Finished]) -> None:
    """Four jobs: two trainings, two quantizations, four evaluations, and a table of all of them."""
    where, done = swept
    assert done.code == 0, done.err
    assert [where.stored(stage) for stage in ("train", "quantize", "evaluate")] == [2, 2, 4]
    assert where.built() == {"train": 2, "quantize": 2, "evaluate": 4, "report": 4}
    assert where.states() == ["finished"] * 4
    assert done.out.count("finished") == 4
    jobs = sorted((where.folder / "jobs").iterdir())
    assert all((job / "report.html").exists() for job in jobs)
    sampling = [read_json(job / "results.json")["sampling"]["temperature"] for job in jobs]
    assert sampling == [0.0, 0.5, 0.0, 0.5]


def test_the_same_sweep_again_builds_nothing(swept: tuple[Place, Finished]) -> None:
    """Given again, the command makes a sweep of its own in which every stage is reused, digest for digest."""
    where, _ = swept
    before = where.summary()["digest"]
    assert where.sweep(*AXES).code == 0
    assert where.built() == {}
    assert where.summary()["digest"] == before


def test_an_interrupted_and_then_killed_sweep_is_resumed(swept: tuple[Place, Finished], fresh: Place) -> None:
    """SIGINT: exit code 130, no traceback, status interrupted, and the command printed continues. kill -9
    once a job has finished: resume finishes the others and does not run the finished one again."""
    process = fresh.start(*AXES)
    while not fresh.job_states():
        assert process.code is None
        time.sleep(0.02)
    process.signal(signal.SIGINT)
    stopped = process.wait(timeout=60)
    assert stopped.code == 130, stopped.err
    assert "Traceback" not in stopped.err
    assert read_json(fresh.folder / "status.json")["status"] == "interrupted"
    process = start(*stopped.err.split("next     punie ")[1].split(), cwd=fresh.cwd)
    while "finished" not in fresh.job_states().values():
        assert process.code is None
        time.sleep(0.02)
    process.signal(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    finished = [job for job, status in fresh.job_states().items() if status == "finished"]
    records = {job: (fresh.folder / "jobs" / job / "status.json").read_bytes() for job in finished}
    assert 1 <= len(finished) < 4
    done = punie("resume", str(fresh.folder), cwd=fresh.cwd)
    assert done.code == 0, done.err
    assert list(fresh.job_states().values()) == ["finished"] * 4
    assert {job: (fresh.folder / "jobs" / job / "status.json").read_bytes() for job in finished} == records
    assert fresh.summary()["digest"] == swept[0].summary()["digest"]
    assert [fresh.stored(stage) for stage in ("train", "quantize", "evaluate")] == [2, 2, 4]


def test_a_failed_training_leaves_the_others(fresh: Place) -> None:
    """One learning rate diverges: its first job fails, its second is skipped, the others finish. They share a
    quantized model that is built once, and dropped with quantize.keep=until_evaluated."""
    rates, keep = "lora.learning_rate=1e-4,1e30", "quantize.keep=until_evaluated"
    done = fresh.sweep(rates, "eval.temperature=0.0,0.5", keep)
    assert done.code == 1
    assert fresh.states() == ["finished", "finished", "failed", "skipped"]
    failed = fresh.summary()["jobs"][2]
    assert "not finite" in failed["error"]
    assert "Traceback" in (fresh.folder / failed["traceback"]).read_text()
    assert failed["traceback"] in done.out
    assert "Traceback" not in done.err
    assert fresh.built()["quantize"] == 1
    assert fresh.stored("quantize") == 0


@pytest.mark.long
def test_a_killed_worker_is_one_lost_job(swept: tuple[Place, Finished], fresh: Place) -> None:
    """Of two workers, that of one job is killed whenever it runs: the job is lost, the other seed's jobs
    finish and build nothing twice. Resumed, the results are those of one process, digest for digest."""
    process = fresh.start(*AXES, *WORKERS, "runtime.device_jobs=1")
    while process.code is None:
        for path in fresh.cwd.glob("outputs/sweeps/*/*/jobs/000-*/status.json"):
            record = read_json(path)
            if record["status"] == "running" and psutil.pid_exists(record["pid"]):
                psutil.Process(record["pid"]).kill()
        time.sleep(0.02)
    done = process.wait()
    assert done.code == 1, done.err
    assert fresh.states()[0] == "killed"
    assert fresh.states()[2:] == ["finished", "finished"]
    others = Counter(stage for row in fresh.summary()["jobs"][2:] for stage in row["built"])
    assert others.items() >= {"train": 1, "quantize": 1, "evaluate": 2, "report": 2}.items()
    assert punie("resume", str(fresh.folder), cwd=fresh.cwd).code == 0
    assert fresh.states() == ["finished"] * 4
    assert fresh.summary()["digest"] == swept[0].summary()["digest"]


def test_a_phase_that_is_a_sweep_ends_with_its_outcome(fresh: Place) -> None:
    """Phase 46 ends with what its criteria say of the seeds' own scores, in the table and in summary.md."""
    done = fresh.sweep("+phase=46", "model=tiny", "seed=0,1")
    assert done.code == 0, done.err
    found = fresh.summary()["outcome"]
    reached = sum(row["score"] >= 0.8 for row in fresh.summary()["jobs"])
    assert found["verdict"] == ("undecided" if reached == 2 else "a rare event")
    assert f"phase 46: {found['verdict']}" in done.out
    assert found["why"] in (fresh.folder / "summary.md").read_text()


def test_only_the_same_sweep_goes_on(fresh: Place) -> None:
    """A folder that is none, one in use, and one whose data was edited: each refused with the reason. Paths
    are relative to the sweep's folder, also for a worker in another one, here the job's own."""
    from filelock import FileLock

    done = punie("resume", str(fresh.cwd), cwd=fresh.cwd)
    assert (done.code, "not a sweep's" in done.err) == (1, True)
    shutil.copytree(FIXTURES / "data", fresh.cwd / "data")
    assert fresh.sweep("data.path=data", "seed=0", "hydra.job.chdir=true").code == 0
    assert [fresh.stored(stage) for stage in ("train", "evaluate")] == [1, 1]
    with FileLock(fresh.folder / ".lock"):
        done = punie("resume", str(fresh.folder), cwd=fresh.cwd)
    assert (done.code, "is running" in done.err) == (1, True)
    rows = (fresh.cwd / "data/valid.jsonl").read_text().splitlines(keepends=True)
    (fresh.cwd / "data/valid.jsonl").write_text("".join([*rows[1:], rows[0]]))
    done = punie("resume", str(fresh.folder), cwd=fresh.cwd)
    assert done.code == 1
    assert "data.valid.jsonl" in done.err
    assert "Traceback" not in done.err


def test_seeds_share_what_the_frozen_layers_give(tmp_path: Path) -> None:
    """Two seeds that together come back to their examples compute the frozen layers' output once; a run alone
    does not keep it."""
    asked = ("lora.num_layers=2", "lora.iters=12", "lora.batch_size=4", "eval.target=adapter")
    done = punie("-m", *LEAST, *asked, "seed=0,1", cwd=tmp_path)
    assert done.code == 0, done.err
    (kept,) = tmp_path.glob("outputs/store/frozen/*/manifest.json")
    assert read_json(kept)["info"]["examples"] > 60
    assert len([*tmp_path.glob("outputs/store/train/*/manifest.json")]) == 2
    done = punie(*LEAST, *asked, f"store.dir={tmp_path}/other", cwd=tmp_path)
    assert done.code == 0, done.err
    assert [*tmp_path.glob("other/frozen/*")] == []
