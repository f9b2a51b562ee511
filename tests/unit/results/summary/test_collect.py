"""Runs from disk: which are found, which count, and what is said of the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from punie.results.summary.collect import collect, read
from punie.util.errors import PunieError

from .conftest import make_run

FEW = "eval: {temperature: 0}, lora: {seed: 0}"
"""What a run's config needs at least."""


def states(*places: Path) -> dict[str, str]:
    return {run.folder.name: run.state for run in collect(places)[0]}


def test_a_sweep_and_its_parent_are_the_same_runs(sweep: Path, tmp_path: Path) -> None:
    """A sweep gives each planned job once, also when a folder of it and a run in it are named as well."""
    found = [*["finished"] * 4, "failed", "not started"]
    expected = {f"{number:03d}-ab": state for number, state in enumerate(found)}
    assert states(sweep) == states(tmp_path, sweep, sweep / "jobs" / "000-ab") == expected
    assert [run.reason for run in collect([sweep])[0] if run.state == "failed"] == ["The training diverged."]


def test_answers_by_prompt(tmp_path: Path) -> None:
    """A run holds every repeat's scores by prompt, and the lock at the temperature it was sampled at."""
    run = read(make_run(tmp_path / "a", {"x": [1.0, 0.0]}, lock=0.25))
    assert run.prompts
    scores = run.prompts["x"].scores
    assert (scores["strict"], scores["keyword"]) == ((1.0, 0.0), (1.0, 0.5))
    assert scores["lock"] == (0.25,)
    assert run.prompts["x"].taxonomy == ("correct", "no call")


def test_the_same_answers_count_once(tmp_path: Path) -> None:
    """A copy of a run tells nothing new, and a failed run gives way to the one that finished later."""
    first = make_run(tmp_path / "a", {"x": 1.0})
    shutil.copytree(first, tmp_path / "copy")
    make_run(tmp_path / "failed", {}, status="failed")
    runs, merged = collect([tmp_path])
    assert ([run.state for run in runs], merged) == (["finished"], 2)


def test_a_store_holds_no_runs(tmp_path: Path) -> None:
    """Artifacts of a store, which hold results as well, are not taken for runs."""
    make_run(tmp_path / "run", {"x": 1.0})
    artifact = make_run(tmp_path / "store" / "evaluate" / "key", {"x": 0.0})
    (artifact / "manifest.json").write_text("{}")
    (make_run(tmp_path / "other" / "half", {"x": 0.0}).parent / ".locks").mkdir()
    assert states(tmp_path) == {"run": "finished"}


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.yaml", "a: [", "cannot be read"),
        ("config.yaml", "just words", "no mapping"),
        ("config.yaml", "eval: {}", "TypeError"),
        ("config.yaml", "{eval: {temperature: x}, lora: {seed: 0}}", "could not convert"),
        ("config.yaml", f"{{{FEW}, phase: {{id: x, criteria: [1]}}}}", "phase.criteria.0"),
        ("config.yaml", f"{{{FEW}, day: 2020-01-01}}", "TypeError"),
        ("config.yaml", f"{{{FEW}, rate: .nan}}", "not JSON compliant"),
        ("status.json", None, "No such file"),
        ("status.json", "[]", "no JSON object"),
        ("results.json", "{", "cannot be read"),
        ("results.json", '{"schema": 0}', "cannot be read: scores: Field required; and 9 more"),
        ("results.json", '{"schema": 99}', "written by a newer punie: schema 99"),
        ("samples.jsonl", "", "Responses are missing from the file: 0 of 1 lines"),
        ("samples.jsonl", '{"id": "x"', "1: The line is not a record of a response: Invalid JSON"),
        ("samples.jsonl", '{"id": "x"}', "1: The line is not a record of a response: category"),
        ("samples.jsonl", None, "The file cannot be read: No such file"),
    ],
)
def test_half_a_run(tmp_path: Path, file: str, content: str | None, words: str) -> None:
    """A run that is half-written, damaged or of another version is kept, unread, with file and reason."""
    folder = make_run(tmp_path / "a", {"x": 1.0})
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    run = collect([folder])[0][0]
    assert (run.state, run.prompts) == ("unread", None)
    assert (run.reason or "").startswith(file)
    assert words in (run.reason or "")


@pytest.mark.parametrize("value", ["NaN", "1.5", "-1", '"high"'])
@pytest.mark.parametrize(
    ("file", "old", "new", "place"),
    [
        ("samples.jsonl", '"strict": {"value": 0.0', '"strict": {"value": ', "samples.jsonl:2: The line"),
        ("results.json", "0.25", "", "results.json cannot be read"),
    ],
    ids=["score", "lock"],
)
def test_a_score_is_a_share(tmp_path: Path, value: str, file: str, old: str, new: str, place: str) -> None:
    """A score, or a format lock, that is not a number from 0 to 1 is refused with its file."""
    folder = make_run(tmp_path / "a", {"x": 1.0, "y": 0.0}, lock=0.25)
    (folder / file).write_text((folder / file).read_text().replace(old, f"{new}{value}"))
    run = read(folder)
    assert run.state == "unread"
    assert (run.reason or "").startswith(place)


def test_missing_answers(tmp_path: Path) -> None:
    """A run without an overall score for want of answers does not count; where that was allowed it does."""
    folder = make_run(tmp_path / "a", {"x": 1.0, "y": 0.0})
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    lines[1] |= {"missing": "timeout", "scores": {}}
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    allowed = read(folder)
    assert (allowed.state, allowed.missing, list(allowed.prompts or ())) == ("finished", 1, ["x"])
    results = json.loads((folder / "results.json").read_text())
    results["scores"]["strict"]["overall"]["mean"] = None
    (folder / "results.json").write_text(json.dumps(results))
    refused = read(folder)
    assert (refused.state, refused.reason) == ("incomplete", "1 of 2 responses are missing")


def test_no_runs(tmp_path: Path) -> None:
    """A folder that is not there, and one without runs, are refused with what to do."""
    with pytest.raises(PunieError, match="no such folder"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(PunieError, match="no runs here"):
        collect([tmp_path])


@pytest.mark.parametrize("plan", [None, "{"])
def test_a_sweep_without_a_usable_plan(sweep: Path, plan: str | None) -> None:
    """A damaged plan is named; its jobs are found all the same, though the sweep itself has a status."""
    (sweep / "plan.json").unlink()
    (sweep / "status.json").write_text("{}")
    if plan is not None:
        (sweep / "plan.json").write_text(plan)
    found = states(sweep)
    assert found.pop("sweep", None) == (None if plan is None else "unread")
    assert sorted(found.values()) == ["failed", *["finished"] * 4]
