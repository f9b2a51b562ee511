"""``punie diff`` of runs, configs and whole sweeps: what it reads, what it says and how it exits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from punie.__main__ import parser
from punie.commands import diff
from punie.config.compose import compose
from punie.results import files
from punie.results.records import Provenance, StageStatus
from punie.run.directory import RunDirectory
from punie.store.artifacts import Store
from punie.sweep import plan, preview
from punie.util.errors import PunieError
from tests.unit.results.made import results, sample

SEEDS = "seed=0,1"
HERE = Provenance(version=1, python="3.11")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def punie_diff(*arguments: object) -> int:
    return diff.run(parser("diff").parse_args([str(argument) for argument in arguments]))


def make_run(path: Path, answers: dict[str, float], *overrides: str, output: str = "words") -> Path:
    """A run directory whose training is in a store; its key depends on the seed alone."""
    config = compose(overrides)
    material = {"stage": "train", "settings": {"lora.seed": config.lora.seed}, "upstream": {}}
    artifact, _ = Store(Path("store")).get_or_build("train", material, lambda _: None)
    path.mkdir()
    directory = RunDirectory(path)
    directory.begin(OmegaConf.to_yaml(config, resolve=True), HERE, store="store")
    stage = StageStatus(stage="train", key=artifact.key, reused=False, seconds=1.0)
    directory.finish("finished", HERE, [stage])
    named = {"train": {"key": artifact.key, "files": {"a": "0"}}}
    files.write(path / "results.json", results(0.5, artifacts=named))
    files.write_samples(
        path / "samples.jsonl",
        [
            sample(
                key,
                value,
                f"{output} {value}",
                taxonomy="correct" if value else "no call",
                scores={name: {"value": value, "reason": ""} for name in ("keyword", "strict")},
            )
            for key, value in answers.items()
        ],
    )
    return path


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
        directory.begin(OmegaConf.to_yaml(dict(job.config.values)), HERE, store="store")
        keys = {part.stage: part.key for part in sweep.parts_of(job)}
        stages = [StageStatus(stage=s, key=key, reused=False, seconds=1.0) for s, key in keys.items()]
        directory.finish("finished", HERE, stages)
        files.write_samples(place / "samples.jsonl", [sample(key, value) for key, value in answers.items()])
    return folder


def read(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_two_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs with two seeds diverge at train because of it; scores are tested and changed prompts named."""
    a = make_run(Path("a"), {"x": 1.0, "y": 0.0, "z": 1.0}, "lora.seed=0")
    b = make_run(Path("b"), {"x": 1.0, "y": 1.0, "z": 1.0}, "lora.seed=42")
    assert punie_diff(a, b) == 1
    shown = capsys.readouterr().out
    assert "first divergence: train, because lora.seed 0 → 42" in shown
    assert "prompts that changed: 1" in shown
    assert "no call → correct" in shown
    assert "words" not in shown
    assert "unwanted calls  1 of 3: 0.333, 0.06 to 0.79  0 of 3: 0.000, 0.00 to 0.56" in shown
    assert punie_diff(a, b, "--format", "json") == 1
    found = read(capsys)
    assert [each["mean"] for each in found["rates"]["unwanted"]] == [pytest.approx(1 / 3), 0.0]
    assert found["first_divergence"] == "train"
    assert found["axes"]["identity"] == [{"key": "lora.seed", "a": 0, "b": 42, "jobs": 1}]
    assert found["scores"]["strict"]["difference"]["estimate"] == pytest.approx(1 / 3)
    assert [prompt["id"] for prompt in found["changed"]] == ["y"]
    assert "outputs" not in found["changed"][0]


def test_equal_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs that differ in name only are the same: exit code 0, and the name is shown as neutral."""
    a = make_run(Path("a"), {"x": 1.0}, "name=one")
    b = make_run(Path("b"), {"x": 1.0}, "name=two")
    assert punie_diff(a, b, "--format", "json") == 0
    found = read(capsys)
    assert found["same"]
    assert found["axes"]["neutral"] == [{"key": "name", "a": "one", "b": "two", "jobs": 1}]


def test_outputs_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Answers are shown side by side, every repeat, and control characters in them as text."""
    a = make_run(Path("a"), {"x": 1.0}, output="\x1b[31mred\u202e")
    b = make_run(Path("b"), {"x": 0.0}, output="plain")
    answers = (b / "samples.jsonl").read_text()
    (b / "samples.jsonl").write_text(
        answers + answers.replace("plain", "again").replace('"repeat": 0', '"repeat": 1')
    )
    punie_diff(a, b, "--outputs")
    shown = capsys.readouterr().out
    assert "\\x1b[31mred\\u202e 1.0" in shown
    assert "plain 0.0" in shown
    assert "again 0.0" in shown
    assert not {"\x1b", "\u202e"} & set(shown)


def test_configs(capsys: pytest.CaptureFixture[str]) -> None:
    """A phase by name is the phase as an override; another temperature diverges at evaluate alone.

    Two phases with other models differ in identity, though neither model's digest is known.
    """
    assert punie_diff("33b", "43b", "--format", "json") == 1
    assert "model.repo" in [change["key"] for change in read(capsys)["axes"]["identity"]]
    assert punie_diff("44", "+phase=44") == 0
    capsys.readouterr()
    assert punie_diff("", "eval.temperature=0", "--format", "json") == 1
    found = read(capsys)
    assert [stage["stage"] for stage in found["stages"]] == ["evaluate"]
    assert found["scores"] is None


def test_runs_on_other_suites(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs with other prompts, or without answers, are compared but for their scores, which is said."""
    a, b = make_run(Path("a"), {"x": 1.0}), make_run(Path("b"), {"y": 1.0})
    assert punie_diff(a, b) == 0
    assert "The scores are not compared: 2 prompts are in one run only: x, y." in capsys.readouterr().out
    (b / "samples.jsonl").unlink()
    assert punie_diff(a, b, "--format", "json") == 0
    assert read(capsys)["not_compared"] == "b has no responses"


def test_a_store_that_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the artifacts the diverging stage is still named, and that its reason is lost."""
    a, b = make_run(Path("a"), {"x": 1.0}), make_run(Path("b"), {"x": 1.0}, "lora.seed=1")
    assert punie_diff(a, b, "--store", "elsewhere") == 1
    assert "first divergence: train: its key differs" in capsys.readouterr().out


def test_keys_of_a_failed_and_of_a_reused_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A failed run has its keys in status.json alone; one that reused its report, in results.json alone."""
    a = make_run(Path("a"), {"x": 1.0})
    failed, reused = (make_run(Path(name), {"x": 1.0}, "lora.seed=1") for name in ("failed", "reused"))
    (failed / "results.json").unlink()
    status = json.loads((reused / "status.json").read_text())
    (reused / "status.json").write_text(json.dumps(status | {"stages": []}))
    for other in (failed, reused):
        assert punie_diff(a, other, "--format", "json") == 1
        assert [(stage["stage"], stage["state"]) for stage in read(capsys)["stages"]] == [("train", "key")]


def test_no_run() -> None:
    """What is no run, phase or override is refused with exit code 2, saying what it lacks."""
    run = make_run(Path("a"), {"x": 1.0})
    Path("empty").mkdir()
    Path("sweep/jobs").mkdir(parents=True)
    odd = make_run(Path("odd"), {"x": 1.0})
    (odd / "results.json").write_text('{"artifacts": {"train": {"key": 1, "files": "none"}}}')
    for other, words in (
        ("nowhere", "neither a run's directory"),
        ("empty", "config.yaml cannot be read"),
        ("sweep", "not a sweep's"),
        ("odd", "results.json cannot be read"),
        ("lora.sed=1", "did you mean lora.seed"),
        ("name='", "cannot be split"),
    ):
        with pytest.raises(PunieError, match=words) as caught:
            punie_diff(run, other)
        assert caught.value.exit_code == 2


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


def test_a_sweep_that_never_ran_and_itself(capsys: pytest.CaptureFixture[str]) -> None:
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
