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
        "data": {},
        "needed_bytes": 0,
        "store": "st",
        "format": "native",
        "rendered": rendered,
    }
    assert plan._text(found).splitlines()[-1].startswith(said)
