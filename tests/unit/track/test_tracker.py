"""What a tracker is told of runs and sweeps, from their files by ``punie track``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import main
from punie.results.sweep import SweepPlan
from punie.sweep.plan import freeze
from punie.sweep.preview import plan as preview
from punie.train.callbacks import CALLBACKS
from punie.util.errors import PunieError
from tests import trackers
from tests.unit.results.made import amend, make_run, records

Told = dict[str, list[list[Any]]]
TRAINED = [
    {"kind": "valid", "iter": 0, "update": 0, "loss": 2.0},
    {"kind": "train", "iter": 4, "update": 1, "loss": 1.5, "gradient_norm": None, "tokens_per_second": 9.5},
]


@pytest.fixture(autouse=True)
def tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(CALLBACKS, "test", "tests.trackers:Written")
    monkeypatch.chdir(tmp_path)


def made(folder: Path, *overrides: str) -> Path:
    """A finished run with a training and a report."""
    run = make_run(folder, records(), overrides)
    (run / "train.jsonl").write_text("".join(json.dumps(each) + "\n" for each in TRAINED))
    (run / "report.html").write_text("<p>")
    stages = [{"stage": "train", "key": "5" * 64, "reused": True, "seconds": 0.5}]
    amend(run / "status.json", stages=stages)
    return run


def told(folder: Path) -> Told:
    """By step of a tracker, what it was told."""
    found: Told = {}
    for line in (folder / "told.jsonl").read_text().splitlines():
        name, *values = json.loads(line)
        found.setdefault(name, []).append(values)
    return found


def test_a_run_is_told_from_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parameters, metrics by optimizer step, scores with intervals, keys, digests and files; the same id each
    time it is sent."""
    run = made(tmp_path / "run", "lora.rank=16", "eval.suite=core27")
    assert main(["track", str(run), "--to", "test"]) == 0
    assert capsys.readouterr().out == "test took 5 messages\n"
    found = told(run)
    ((id_, about),) = found["start"]
    assert about["parameters"]["lora.rank"] == 16
    assert about["parameters"]["eval.lock.top_p"] == "[0.9]"
    assert (about["name"], about["parent"], about["project"]) == ("tiny/run", None, None)
    assert found["log"][:3] == [
        [None, {"seconds/train": 0.5}],
        [0, {"valid/iter": 0, "valid/loss": 2.0}],
        [1, {"train/iter": 4, "train/loss": 1.5, "train/tokens_per_second": 9.5}],
    ]
    results = json.loads((run / "results.json").read_text())
    scores = results["scores"]["strict"]
    values = found["log"][3][1]
    assert values["strict/overall"] == scores["overall"]["mean"]
    assert [values["strict/overall.low"], values["strict/overall.high"]] == scores["overall"]["interval"]
    assert values["strict/lsp"] == scores["categories"]["lsp"]["mean"]
    tags = {name: value for (each,) in found["tag"] for name, value in each.items()}
    assert (tags["key.train"], tags["reused.train"]) == ("5" * 64, "true")
    identity = results["identity"]
    assert (tags["weights"], tags["suite"]) == (identity["weights"]["whole"], identity["suite"]["sha256"])
    assert [name for (name,) in found["keep"]] == [
        "report.html", "results.json", "config.yaml", "provenance.json",
    ]  # fmt: skip
    assert found["end"] == [["finished"]]
    assert main(["track", str(run), "--to", "test"]) == 0
    assert told(run) == found
    other = made(tmp_path / "other", "lora.rank=16", "eval.suite=core27")
    assert main(["track", str(other), "--to", "test"]) == 0
    assert told(other)["start"][0][0] != id_


def test_a_sweep_is_the_parent_of_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each job names the sweep's id; one that has not begun is counted."""
    monkeypatch.setenv("PUNIE_RUN_ID", "20261123T000000-abcdef")
    plan: SweepPlan = preview(["-m", "seed=0,1,2", "track=[mlflow,wandb]"])
    sweep = tmp_path / "sweep"
    freeze(plan, sweep)
    for job in plan.jobs[:2]:
        made(sweep / job.folder, *job.overrides)
    assert main(["track", str(sweep), "--to", "test"]) == 0
    assert capsys.readouterr().out == "test took 12 messages of 2 of 3 jobs\n"
    ((id_, about),) = told(sweep)["start"]
    assert (about["name"], about["parent"]) == ("tiny/sweep", None)
    jobs = [told(sweep / job.folder)["start"][0] for job in plan.jobs[:2]]
    assert len({each for each, _ in jobs}) == 2
    assert {(each["parent"], each["group"]) for _, each in jobs} == {(id_, "tiny/sweep")}
    assert jobs[1][1]["name"] == "001 seed=1"


def test_a_run_that_failed_is_told_with_its_error(tmp_path: Path) -> None:
    """Without scores, with the first line of what went wrong."""
    run = made(tmp_path / "run")
    amend(run / "status.json", status="failed", error="The training diverged.\n  where    train")
    (run / "results.json").unlink()
    assert main(["track", str(run), "--to", "test"]) == 0
    assert [{"error": "The training diverged."}] in told(run)["tag"]
    assert told(run)["end"] == [["failed"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["No tracker is named", "--to NAME"]),
        (["empty", "--to", "test"], ["not the directory of a run"]),
        (["run", "--to", "refusing"], ["refusing did not take a message", "ConnectionError: 401", "key ***"]),
        (["run", "--to", "absent"], ["absent is not installed", "pip install"]),
    ],
)
def test_what_cannot_be_sent_is_said(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """No tracker, no run, a server that refuses, a missing package: exit code 1, and no secret is shown."""
    monkeypatch.setenv("TEST_API_KEY", "hush-4f1c9d")
    for kind in (trackers.Refusing, trackers.Absent):
        monkeypatch.setitem(CALLBACKS, kind.__name__.lower(), f"tests.trackers:{kind.__name__}")
    (tmp_path / "empty").mkdir()
    made(tmp_path / "run")
    assert main(["track", *arguments]) == 1
    shown = capsys.readouterr().err
    assert [word for word in words if word not in shown] == []
    assert "hush" not in shown
    assert "me:pw" not in shown


def test_a_tracker_is_no_axis() -> None:
    """Jobs that differ in their tracker alone would be the same."""
    with pytest.raises(PunieError, match=r"no axis[^$]*track=\[mlflow,wandb\] reports"):
        preview(["-m", "seed=0,1", "track=mlflow,wandb"])
