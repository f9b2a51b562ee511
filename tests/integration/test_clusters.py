"""Sweeps whose jobs run elsewhere: submitit on this machine, and a Slurm and a Ray cluster of two nodes."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from punie.run.directory import is_locked
from tests.conftest import read_json
from tests.integration.test_sweeps import AXES, Place, place
from tests.processes import punie, start
from tests.slurm import cluster as slurm

SUBMITTED = ("hydra.launcher.timeout_min=10", "hydra.launcher.cpus_per_task=1")
ONCE = {"train": 2, "quantize": 2, "evaluate": 4, "report": 4}
"""What four jobs over two seeds build, if nothing is built twice."""


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[slurm.Cluster]:
    """A Slurm cluster of two nodes."""
    pytest.importorskip("submitit")
    if absent := slurm.missing():
        pytest.skip(f"not installed: {', '.join(absent)}")
    with slurm.cluster() as cluster:
        yield cluster


def waves(where: Place) -> list[list[dict[str, Any]]]:
    """The records of the newest sweep's jobs, wave by wave."""
    plan = read_json(where.folder / "plan.json")
    folders = sorted((where.folder / "jobs").iterdir())
    assert [path.name for path in folders] == [f"{job['number']:03d}-{job['id']}" for job in plan["jobs"]]
    return [[read_json(folders[number] / "status.json") for number in wave] for wave in plan["waves"]]


def assert_trained_first(where: Place) -> None:
    """One job of each seed trains, and the others start when both have ended."""
    first, second = waves(where)
    assert where.built() == ONCE
    assert [len(first), len(second)] == [2, 2]
    assert max(job["ended"] for job in first) <= min(job["started"] for job in second)


def until(look: Callable[[], Any], seconds: float = 300.0) -> Any:
    """What ``look`` finds, as soon as it is something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.mark.slurm
def test_submitted_jobs_share_their_trainings(tmp_path: Path) -> None:
    """Two waves of jobs that submitit starts on this machine: two trainings for four jobs."""
    pytest.importorskip("submitit")
    where = place(tmp_path)
    done = where.sweep(*AXES, "hydra/launcher=submitit_local", *SUBMITTED)
    assert done.code == 0, done.err
    assert_trained_first(where)


@pytest.mark.slurm
def test_a_slurm_cluster_shares_its_trainings(two_nodes: slurm.Cluster, tmp_path: Path) -> None:
    """Four jobs on two nodes with one store: two trainings, a summary, and no word of submitit's."""
    where = place(tmp_path)
    done = punie(*where.command(*AXES, "hydra/launcher=slurm", *SUBMITTED), cwd=tmp_path, env=two_nodes.env)
    assert done.code == 0, done.err
    assert_trained_first(where)
    assert where.states() == ["finished"] * 4
    assert done.out.count("finished") == 4
    assert (where.folder / "summary.html").exists()
    assert "sacct" not in done.out + done.err
    jobs = until(lambda: found if len(found := two_nodes.ended()) == 4 else None)
    assert {job["NodeList"] for job in jobs} == set(slurm.NODES)
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}


@pytest.mark.slurm
def test_a_cancelled_job_is_one_lost_job(two_nodes: slurm.Cluster, tmp_path: Path) -> None:
    """A job that scancel kills is killed, the other three finish, and resume finishes it on the cluster."""
    where = place(tmp_path)
    process = start(
        *where.command(*AXES, "hydra/launcher=slurm", *SUBMITTED), cwd=tmp_path, env=two_nodes.env
    )
    try:
        plan = read_json(until(lambda: next(tmp_path.glob("outputs/sweeps/*/*/plan.json"), None)))
        job = plan["jobs"][1]
        key = next(key for key in job["stages"] if plan["parts"][key]["stage"] == "evaluate")
        lock = tmp_path / f"outputs/store/.locks/evaluate-{key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):  # so that the job waits to be cancelled
            record = where.folder / "jobs" / f"001-{job['id']}" / "status.json"
            until(lambda: record.exists() and read_json(record).get("at") == "evaluate")
            hydra = OmegaConf.load(record.parent / ".hydra/hydra.yaml").hydra
            two_nodes.command("scancel", str(hydra.job.id))
            until(lambda: not is_locked(record.parent))
        done = process.wait()
    finally:
        process.end()
    assert done.code == 1, done.err
    assert where.states() == ["finished", "killed", "finished", "finished"]
    assert "Traceback" not in done.out + done.err
    done = punie("resume", str(where.folder), cwd=tmp_path, env=two_nodes.env)
    assert done.code == 0, done.err
    assert where.states() == ["finished"] * 4
    assert [where.stored(stage) for stage in ("train", "quantize", "evaluate")] == [2, 2, 4]


@pytest.fixture
def ray_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray cluster of two nodes, of one CPU each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # it would call home
    utils = pytest.importorskip("ray.cluster_utils")
    folder = tempfile.mkdtemp(prefix="punie-ray-")  # a short path: sockets allow 107 bytes
    monkeypatch.setenv("RAY_TMPDIR", folder)
    node = {"num_cpus": 1, "object_store_memory": 78643200, "include_dashboard": False}
    cluster = utils.Cluster()
    try:
        for _ in range(2):
            cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.ray
def test_a_ray_cluster_shares_its_trainings(ray_nodes: str, tmp_path: Path) -> None:
    """Four jobs on two nodes that were started elsewhere: two trainings, side by side, and a summary."""
    where = place(tmp_path)
    address = f"hydra.launcher.ray.init.address='{ray_nodes}'"
    done = where.sweep(*AXES, "hydra/launcher=ray_cluster", address)
    assert done.code == 0, done.err
    assert_trained_first(where)
    assert where.states() == ["finished"] * 4
    assert (where.folder / "summary.html").exists()
    one, other = waves(where)[0]
    assert one["pid"] != other["pid"]
    # A node has one CPU: jobs at the same time are jobs on two nodes.
    assert max(one["started"], other["started"]) < min(one["ended"], other["ended"])


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_a_launcher_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """Without the extra, the message says what to install."""
    done = punie("-m", "seed=0", "hydra/launcher=ray", cwd=tmp_path)
    assert done.code == 2
    assert "pip install 'punie[ray]'" in done.err
