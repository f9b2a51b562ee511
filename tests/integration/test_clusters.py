"""Sweeps whose jobs run elsewhere: submitit on this machine, and on a Slurm cluster where there is one."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.conftest import punie, read_json
from tests.integration.test_sweeps import AXES, place


@pytest.mark.slurm
@pytest.mark.parametrize("launcher", ["submitit_local", "slurm"])
def test_jobs_of_a_cluster_share_their_trainings(launcher: str, tmp_path: Path) -> None:
    """Two waves of submitted jobs: two trainings for four jobs, each in its planned folder."""
    pytest.importorskip("submitit")
    if launcher == "slurm" and shutil.which("sbatch") is None:
        pytest.skip("there is no Slurm here")
    where = place(tmp_path)
    done = where.sweep(*AXES, f"hydra/launcher={launcher}", "hydra.launcher.timeout_min=10")
    assert done.code == 0, done.err
    assert [where.stored(stage) for stage in ("train", "evaluate")] == [2, 4]
    assert where.states() == ["finished"] * 4
    plan = read_json(where.folder / "plan.json")
    assert sorted(path.name for path in (where.folder / "jobs").iterdir()) == [
        f"{job['number']:03d}-{job['id']}" for job in plan["jobs"]
    ]


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_a_launcher_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """Without the extra, the message says what to install."""
    done = punie("-m", "seed=0", "hydra/launcher=ray", cwd=tmp_path)
    assert done.code == 2
    assert "pip install 'punie[ray]'" in done.err
