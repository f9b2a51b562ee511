"""Real trackers: a sweep reports to all of them at once, is sent again, and is read back by their clients."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from punie.results import files
from punie.results.run import Run
from punie.results.sweep import SweepPlan
from punie.train.callbacks import CALLBACKS
from punie.util.paths import PACKAGE
from tests.conftest import LEAST

pytestmark = pytest.mark.trackers
KEY = "hush-4f1c9d-8a"


@dataclass(frozen=True)
class Tracked:
    """A sweep of two seeds that all trackers were told of three times."""

    sweep: Path
    plan: SweepPlan

    @property
    def jobs(self) -> list[Run]:
        return [Run(self.sweep / job.folder) for job in self.plan.jobs]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    """Live, whatever arrives in time on this machine, and twice more by ``punie track``."""
    cwd = tmp_path_factory.mktemp("tracked")
    settings = {
        "PYTHONPATH": str(PACKAGE.parent),
        "MLFLOW_TRACKING_URI": f"sqlite:///{cwd}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACKIO_DIR": str(cwd / "trackio"),
        "WANDB_API_KEY": KEY,
        "WANDB_MODE": "offline",
        "HOME": str(cwd),
    }
    names = ",".join(CALLBACKS)
    sweep = ""
    for arguments in (["-m", *LEAST, "lora.iters=4", "seed=0,1", f"track=[{names}]"], ["track"], ["track"]):
        done = subprocess.run(
            [sys.executable, "-m", "punie", *arguments, *([sweep] if sweep else [])],
            cwd=cwd,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        print(done.stdout[-1500:], done.stderr[-1500:])
        sweep = sweep or re.findall(r"^sweep directory: (\S+)$", done.stdout, re.MULTILINE)[0]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.chdir(cwd)
        yield Tracked(cwd / sweep, SweepPlan.read(cwd / sweep))


def steps(job: Run) -> dict[str, list[int]]:
    """The optimizer steps of a job's losses."""
    found: dict[str, list[int]] = {"train/loss": [], "valid/loss": []}
    for metric in files.read_metrics(job.folder / "train.jsonl"):
        if f"{metric.kind}/loss" in found and metric.update is not None:
            found[f"{metric.kind}/loss"].append(metric.update)
    return found


def strict(job: Run) -> tuple[float, ...]:
    """The strict score with its interval."""
    found = job.results.scores["strict"].overall
    assert found.mean is not None
    assert found.interval is not None
    return (found.mean, *found.interval)


NAMES = ("strict/overall", "strict/overall.low", "strict/overall.high")


def test_mlflow(tracked: Tracked) -> None:
    """A parent run and its children with parameters, metrics by step, scores, digests and the report."""
    import mlflow

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("punie")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = Counter(run.data.tags.get("mlflow.parentRunId") for run in runs)
    (parent,) = [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parents == {None: 1, parent: 2}
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_seed = {run.data.params.get("lora.seed"): run for run in runs}
    for seed, job in enumerate(tracked.jobs):
        found = by_seed[str(seed)]
        for name, expected in steps(job).items():
            assert [each.step for each in client.get_metric_history(found.info.run_id, name)] == expected
        assert tuple(found.data.metrics[name] for name in NAMES) == pytest.approx(strict(job))
        assert found.data.tags["weights"] == job.results.identity.weights.whole
        assert found.data.tags["key.train"] == job.results.artifacts["train"].key
        kept = {each.path for each in client.list_artifacts(found.info.run_id)}
        assert kept == {"report.html", "results.json", "config.yaml", "provenance.json"}
    assert {each.path for each in client.list_artifacts(parent)} >= {"summary.html", "sweep.json"}


def test_tensorboard(tracked: Tracked) -> None:
    """One event file for each job, below the sweep's, with the same scalars and the keys as text."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for job in tracked.jobs:
        (events,) = (job.folder / "tensorboard").iterdir()
        found = EventAccumulator(str(events))
        found.Reload()
        for name, expected in steps(job).items():
            assert [each.step for each in found.Scalars(name)] == expected
        scores = tuple(found.Scalars(name)[0].value for name in NAMES)
        assert scores == pytest.approx(strict(job), rel=1e-6)
        (tags,) = found.Tensors("tags")
        text = tags.tensor_proto.string_val[0].decode()
        assert str(job.results.identity.weights.whole) in text
        assert job.results.artifacts["train"].key in text
    assert (tracked.sweep / "tensorboard").is_dir()


def records(path: Path) -> Iterator[Any]:
    """The records of an offline run of wandb: LevelDB's log format, each a protobuf message."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def test_wandb(tracked: Tracked) -> None:
    """Each sending is a run with the same id, group and history; the key is in no file."""
    import json

    for job in tracked.jobs:
        sent = sorted(job.folder.glob("wandb/offline-run-*/*.wandb"))
        assert len({path.name for path in sent}) == 1
        read = [*records(sent[-1])]
        (run,) = [each.run for each in read if each.WhichOneof("record_type") == "run"]
        assert (run.run_group, run.job_type) == (f"tiny/{tracked.sweep.name}", "job")
        history: dict[str, list[int]] = {name: [] for name in steps(job)}
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        summary: dict[str, Any] = {}
        for each in read:
            for item in each.history.item:
                name = item.key or "/".join(item.nested_key)
                if name in history:
                    history[name].append(each.history.step.num)
            summary |= {
                item.key or item.nested_key[0]: json.loads(item.value_json) for item in each.summary.update
            }
            config |= {item.key: json.loads(item.value_json) for item in each.config.update}
        assert history == steps(job)
        assert tuple(summary[name] for name in NAMES) == pytest.approx(strict(job))
        assert config["lora.seed"] == job.config.value("lora.seed")
        assert config["tags"]["weights"] == job.results.identity.weights.whole
    everything = [path for path in tracked.sweep.rglob("*") if path.is_file()]
    assert [path for path in everything if KEY.encode() in path.read_bytes()] == []


def test_trackio(tracked: Tracked) -> None:
    """One run for each job, in the sweep's group, with its metrics and the report."""
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    found = {str(run.name).rpartition(" ")[0]: run for run in trackio.Api().runs("punie")}
    assert len(found) == 3
    for number, job in enumerate(tracked.jobs):
        run = found[f"{number:03d} seed={number}"]
        logs = SQLiteStorage.get_logs("punie", run.name, run_id=run.id)
        for name, expected in steps(job).items():
            assert [each["step"] for each in logs if name in each] == expected
        merged = {name: value for each in logs for name, value in each.items()}
        assert tuple(merged[name] for name in NAMES) == pytest.approx(strict(job))
        assert str(job.results.identity.weights.whole) in str(merged["tags"])
        assert run.config is not None
        assert run.config["lora.seed"] == number
