"""``punie diff`` of whole sweeps: planned for real, their answers made by hand."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from punie.commands import diff
from punie.results import files
from punie.results.records import Provenance, StageStatus
from punie.run.directory import RunDirectory
from punie.sweep import plan, preview
from punie.util.errors import PunieError
from tests.unit.results.made import sample

SEEDS = "seed=0,1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def punie_diff(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    diff.add_arguments(parser)
    return diff.run(parser.parse_args([str(argument) for argument in arguments]))


def make_sweep(name: str, *overrides: str, scores: dict[int, dict[str, float]] | None = None) -> Path:
    """A sweep's folder; the jobs with scores, by their number, have finished."""
    folder, sweep = Path(name), preview.plan(overrides)
    plan.freeze(sweep, folder)
    (folder / "jobs").mkdir()
    for number, answers in (scores or {}).items():
        job = sweep.jobs[number]
        place = folder / job.folder
        place.mkdir()
        directory = RunDirectory(place)
        provenance = Provenance(version=1, python="3.11")
        directory.begin(OmegaConf.to_yaml(dict(job.config.values)), provenance, store="store")
        stages = [
            StageStatus(stage=part.stage, key=part.key, reused=False, seconds=1.0)
            for part in sweep.parts_of(job)
        ]
        directory.finish("finished", provenance, stages)
        files.write_samples(place / "samples.jsonl", [sample(key, value) for key, value in answers.items()])
    return folder


def read(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_two_sweeps(capsys: pytest.CaptureFixture[str]) -> None:
    """Another rank is told once for all jobs, and each prompt's scores are means over the jobs."""
    scores = {0: {"x": 1.0, "y": 0.0}, 1: {"x": 1.0, "y": 1.0}}
    a = make_sweep("a", SEEDS, scores=scores)
    b = make_sweep("b", "seed=1,0", "lora.rank=4", scores={0: {"x": 1.0, "y": 0.0}, 1: {"x": 0.0, "y": 0.0}})
    assert punie_diff(a, b) == 1
    shown = capsys.readouterr().out
    assert "A  a  (2 jobs)" in shown
    assert "paired jobs: 2, by lora.seed" in shown
    assert "first divergence: train, because lora.rank 8 → 4 (2 of 2)" in shown
    assert shown.count("lora.rank") == 3  # as the reason, among the stages, and as identity
    assert "The scores are means over 2 jobs of each sweep." in shown
    assert "x         git         1.00 → 1.00  1.00 → 0.50" in shown
    assert punie_diff(a, b, "--format", "json") == 1
    found = read(capsys)
    assert found["axes"]["identity"] == [{"key": "lora.rank", "a": 8, "b": 4, "jobs": 2}]
    assert [stage["stage"] for stage in found["stages"]] == ["train", "quantize", "evaluate"]
    assert found["scores"]["strict"]["difference"]["estimate"] == pytest.approx(-0.5)
    assert [Path(one).name[:3] for pair in found["matched"] for one in pair] == ["000", "001", "001", "000"]


def test_a_sweep_and_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """The same sweep twice is the same, exit code 0, though no job of it has run."""
    a, b = make_sweep("a", SEEDS), make_sweep("b", SEEDS)
    assert punie_diff(a, b) == 0
    shown = capsys.readouterr().out
    assert "Nothing that decides the result differs." in shown
    assert "The scores are not compared: no paired jobs both have responses." in shown


def test_jobs_of_one_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    """Jobs that only one sweep has are listed with their place, and make the two differ."""
    a = make_sweep("a", SEEDS, "eval.temperature=0,0.7", scores={1: {"x": 1.0}})
    b = make_sweep("b", "seed=0,2", scores={0: {"x": 1.0}})
    assert punie_diff(a, b) == 1
    shown = capsys.readouterr().out
    assert "only in A: 3" in shown
    assert "lora.seed=1, eval.temperature=0.7" in shown
    assert "only in B: 1" in shown
    assert "The scores are means over 1 jobs of each sweep." in shown


def test_a_sweep_and_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A config or a run is held against the job at its place; without one, the sweep's axes are named."""
    a = make_sweep("a", SEEDS, scores={1: {"x": 1.0}})
    assert punie_diff(a, "seed=1 lora.rank=4", "--format", "json") == 1
    found = read(capsys)
    assert Path(found["a"]).name.startswith("001-")
    assert found["axes"]["identity"] == [{"key": "lora.rank", "a": 8, "b": 4, "jobs": 1}]
    (job,) = (a / "jobs").iterdir()
    assert punie_diff(job, a) == 0
    capsys.readouterr()
    with pytest.raises(PunieError, match="no job with these values") as caught:
        punie_diff("seed=7", a)
    assert (caught.value.exit_code, caught.value.found) == (2, "lora.seed=7")
    assert caught.value.expected == "lora.seed=0,1 eval.seed=0,1"


@pytest.mark.parametrize("jobs", [[], [{"config": {}}], [{"config": {"eval": 3}}], [{"config": 3}]])
def test_a_damaged_plan(jobs: list[dict[str, Any]]) -> None:
    """A plan without jobs, or whose configs are none, is refused with exit code 2 and its folder."""
    a, b = make_sweep("a", SEEDS), make_sweep("b", SEEDS)
    found = json.loads((b / "plan.json").read_text())
    found["jobs"] = [found["jobs"][0] | job for job in jobs]
    (b / "plan.json").write_text(json.dumps(found))
    with pytest.raises(PunieError, match=r"plan\.json cannot be read|has no jobs") as caught:
        punie_diff(a, b)
    assert (caught.value.exit_code, (caught.value.where or "")[:1]) == (2, "b")


def test_answers_of_sweeps_are_not_shown() -> None:
    """Whole sweeps' answers side by side are refused, with what shows them."""
    a = make_sweep("a", SEEDS)
    with pytest.raises(PunieError, match="too many") as caught:
        punie_diff(a, a, "--outputs")
    assert caught.value.exit_code == 2
