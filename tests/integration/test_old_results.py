"""A run and a sweep of version 0.1 can be shown, compared and summarized, and what is newer is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from punie.__main__ import main

OLD = Path(__file__).parents[1] / "fixtures" / "v0.1"
RUN, SWEEP = str(OLD / "run"), str(OLD / "sweep")
JOB = str(next((OLD / "sweep" / "jobs").iterdir()))


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints; it must end with 0 or 1, and print no error."""
    assert main([*arguments]) in (0, 1)
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def keyword(folder: str) -> float:
    """The keyword score that the old results.json holds."""
    results = json.loads((Path(folder) / "results.json").read_text())
    return results["scores"]["keyword"]["overall"]["mean"]


@pytest.mark.parametrize("folder", [RUN, JOB], ids=["run", "job"])
def test_an_old_run_is_shown(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``punie show`` prints the old run's scores."""
    assert f"{keyword(folder):.3f}" in said(capsys, "show", folder)


def test_old_runs_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    """A run and itself are the same; against a job of the sweep the stages and the scores differ."""
    found = json.loads(said(capsys, "diff", RUN, RUN, "--format", "json"))
    assert (found["same"], found["scores"]["keyword"]["a"]) == (True, pytest.approx(keyword(RUN)))
    found = json.loads(said(capsys, "diff", RUN, JOB, "--format", "json"))
    assert not found["same"]
    assert found["scores"]["keyword"]["b"] == pytest.approx(keyword(JOB))


def test_old_sweeps_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep and itself are the same, job by job, and have the mean score of its jobs."""
    found = json.loads(said(capsys, "diff", SWEEP, SWEEP, "--format", "json"))
    assert (found["same"], len(found["matched"]), found["scored_jobs"]) == (True, 4, 4)
    scores = [keyword(str(job)) for job in (OLD / "sweep" / "jobs").iterdir()]
    assert found["scores"]["keyword"]["a"] == pytest.approx(sum(scores) / len(scores))


def test_old_runs_are_summarized(capsys: pytest.CaptureFixture[str]) -> None:
    """Each old run has the keyword score that its results.json holds."""
    rows = csv.DictReader(io.StringIO(said(capsys, "summarize", RUN, SWEEP, "--format", "csv")))
    found = {str(Path(row["run"]).absolute()): float(row["keyword"]) for row in rows}
    assert len(found) == 5
    for folder, score in found.items():
        assert score == pytest.approx(keyword(folder))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("results.json", '{"schema": 99}', "written by a newer punie"),
        ("results.json", '{"schema": 3, "scores": 1}', "results.json cannot be read"),
        ("status.json", "[1, 2]", "no JSON object"),
        ("status.json", '{"status": "finished", "stages": 3}', "stages: Input should be a valid"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, file: str, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged, foreign or newer file is named with its first problem; the exit code is 2 or 1."""
    shutil.copytree(RUN, tmp_path / "run")
    (tmp_path / "run" / file).write_text(content)
    for command in (["diff", RUN], ["show"]) if file == "results.json" else (["diff", RUN],):
        assert main([*command, str(tmp_path / "run")]) in (1, 2)
        shown = capsys.readouterr().err
        assert words in shown
        assert file in shown
    assert main(["summarize", str(tmp_path / "run")]) == 1
    assert words in capsys.readouterr().out
