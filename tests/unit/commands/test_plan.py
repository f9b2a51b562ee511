"""``punie plan``: what stands in the way."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from punie.__main__ import main
from punie.commands import plan


def test_a_plan_that_cannot_run_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing data folder is told in full, once, and the exit code is 1."""
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "data=jsonl", "data.path=nowhere"]) == 1
    assert capsys.readouterr().out.count("data=jsonl data.path=FOLDER takes yours") == 1
    assert main(["plan", "--json", "data=jsonl", "data.path=nowhere"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "data.path=nowhere" in problem


@pytest.mark.parametrize("sweep", [[], ["-m"]], ids=["run", "sweep"])
def test_the_next_command_can_be_typed_as_it_is(
    sweep: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An override with brackets is quoted in the command that a plan ends with."""
    monkeypatch.chdir(tmp_path)
    overrides = ["eval.targets=[base,quantized]", "name=a b", "seed=1"]
    main(["plan", *sweep, *overrides])
    last = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(last.removeprefix("next: ")) == ["python", "-m", "punie", *sweep, *overrides]


@pytest.mark.parametrize(
    ("rendered", "said"),
    [
        ({}, "calls: by the model's chat template"),
        ({"format": "prompted", "opening": "<call>\n"}, 'format: prompted, calls begin with "<call>\\n"'),
        ({"format": "native", "opening": ""}, "format: native"),
    ],
)
def test_how_calls_are_written_is_shown(rendered: dict, said: str) -> None:
    """Once preflight has rendered the examples, a plan names the format and what a call begins with."""
    found = {
        "stages": [],
        "needed_bytes": 0,
        "store": "st",
        "format": "native",
        "data": {},
        "rendered": rendered,
    }
    assert plan._text(found).splitlines()[-1].startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], None),
        (["+phase=43b", "model=tiny"], "the mean against 0.8 (1 training seed): detects"),
        (["-m", "lora.rank=4,8", "seed=0,1"], "between recipes (2 training seeds): detects"),
    ],
    ids=["run", "phase", "sweep"],
)
def test_power_before_the_run(
    arguments: list[str],
    said: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A phase or a sweep shows what it will detect; a plain run does not."""
    monkeypatch.chdir(tmp_path)
    main(["plan", *arguments])
    shown = capsys.readouterr().out
    assert ("\npower: " in shown) == (said is not None)
    assert said is None or said in shown


def test_power_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--json`` has the figures of each question."""
    monkeypatch.chdir(tmp_path)
    main(["plan", "--json", "+phase=43b", "model=tiny"])
    power = json.loads(capsys.readouterr().out)["power"]
    assert (power["score"], power["prompts"]) == ("keyword", 27)
    assert 0 < power["questions"][0]["smallest"] < 1


def test_variances_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without runs is refused with its name."""
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--like", "nowhere", "+phase=46", "model=tiny"]) != 0
    assert "nowhere" in capsys.readouterr().err
