"""What CONTRIBUTING adds to punie, added to a copy of it and run: a file each, and a line in a table."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from punie.util.paths import PACKAGE
from tests.conftest import LEAST
from tests.pages import blocks

ROOT = PACKAGE.parent
_TABLES = {
    "punie/stages/__init__.py": ("    evaluate.STAGE,\n", ("report, train\n", "report, train, weigh\n")),
    "punie/evals/scores.py": ('    "strict": Scorer("punie.evals.scorers:strict", binary=True),\n', None),
}
"""By file, the table's line after which another one goes, and the import where there is one."""


@dataclass(frozen=True)
class Copy:
    """A checkout of punie with the additions, and what is run in it."""

    root: Path

    def run(self, *arguments: str, cwd: Path) -> str:
        """The output of ``python ARGUMENTS``, by the copy's own punie."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PUNIE_", "HYDRA_"))}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env={**own, "PYTHONPATH": str(self.root)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """punie as it is, with what CONTRIBUTING shows."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("punie", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data").symlink_to(ROOT / "data")
    for block in blocks(ROOT / "CONTRIBUTING.md"):
        path = root / block.about
        if block.mark == "file":
            assert not path.exists(), f"{block.about} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")
        if block.mark != "line":
            continue
        last, imported = _TABLES[block.about]
        table = path.read_text("utf-8")
        assert table.count(last) == 1
        table = table.replace(last, last + block.text)
        path.write_text(table.replace(*imported) if imported else table, "utf-8")
    return Copy(root)


@pytest.fixture(scope="module")
def place(copy: Copy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model of CONTRIBUTING was trained, and scored by its scorer."""
    place = tmp_path_factory.mktemp("work")
    copy.run("-m", "punie", "model=mine", "name=mine", "eval.fail_score=economy", *LEAST, cwd=place)
    return place


def test_the_copy_is_what_runs(copy: Copy, tmp_path: Path) -> None:
    """The tests of this file are of the copy, not of the checkout beside which they stand."""
    assert str(copy.root) in copy.run("-c", "import punie; print(punie.__file__)", cwd=tmp_path)


def test_the_example_of_a_test_passes(copy: Copy, tmp_path: Path) -> None:
    """The scorer's test that CONTRIBUTING shows is collected, and holds."""
    test = copy.root / "tests/unit/evals/test_economy.py"
    assert "3 passed" in copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(test), cwd=tmp_path)


@pytest.mark.slow
def test_a_model_a_stage_and_a_scorer_take_part_in_a_run(copy: Copy, place: Path) -> None:
    """One run trains the model, has the stage's file, and the scorer's figures in all of its documents."""
    (folder,) = (place / "outputs/runs/mine").iterdir()
    weights = json.loads((folder / "weights.json").read_text())
    assert weights["model.safetensors"] > 100_000
    scores = json.loads((folder / "results.json").read_text())["scores"]
    assert 0.0 <= scores["economy"]["overall"]["mean"] <= 1.0
    assert len(scores["economy"]["overall"]["interval"]) == 2
    answers = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert {*answers[0]["scores"]} == {"keyword", "strict", "economy"}
    assert " economy | " in (folder / "report.md").read_text()
    planned = copy.run("-m", "punie", "plan", "model=mine", "name=mine", *LEAST, cwd=place)
    assert re.findall(r"^(\w+) .* (cached|to run) ", planned, re.MULTILINE) == [
        (stage, "cached")
        for stage in ("preflight", "base", "train", "quantize", "evaluate", "weigh", "report")
    ]
    again = copy.run("-m", "punie", "rescore", str(folder), cwd=place)
    assert "economy" in again
    assert "0 of 7 responses are scored differently" in again


@pytest.mark.slow
def test_a_launcher_sweeps(copy: Copy, place: Path) -> None:
    """Its two jobs at once end well, and can be summarized by the scorer that was added."""
    sweep = ("-m", "hydra/launcher=pair", "model=mine", "name=mine", "eval.seed=1,2", *LEAST)
    out = copy.run("-m", "punie", *sweep, cwd=place)
    assert out.count("] finished ") == 2
    (folder,) = (place / "outputs/sweeps/mine").iterdir()
    assert "Scores: economy" in copy.run(
        "-m", "punie", "summarize", str(folder), "--metric", "economy", cwd=place
    )
