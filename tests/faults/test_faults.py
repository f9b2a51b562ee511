"""The short form of ``make faults``: a few cases of most kinds, with a fixed seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import read_json

COUNTS = {"kills": 4, "calls": 4, "power": 2, "gc": 2, "damage": 2, "clock": 1, "crowd": 1, "collect": 1}
"""Without disk, signals and readonly, of which tests/integration has a case each."""
KILLED = {f"kills in {stage}" for stage in ("train", "quantize")}
"""Of the stages in which the seed has a run killed, those that are not over at once."""
pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of all of them; in a process of its own, since it forks."""
    folder = tmp_path_factory.mktemp("faults")
    counts = [f"{kind}={count}" for kind, count in COUNTS.items()]
    command = [sys.executable, "-m", "tests.faults", *counts, "--seed", "0"]
    command += ["--world", str(folder / "world"), "--json", str(folder / "figures.json")]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1800)
    print(done.stdout, done.stderr)  # shown if a test fails
    return read_json(folder / "figures.json")


@pytest.mark.parametrize("kind", COUNTS)
def test_nothing_is_lost_and_nothing_is_wrong(figures: dict[str, Any], kind: str) -> None:
    """After every fault the invariants hold, and the same command again gives the undisturbed results."""
    assert figures[kind]["wrong"] == []


def test_the_faults_really_happened(figures: dict[str, Any]) -> None:
    """The faults were injected: runs were killed in the stages that are meant, and of eight processes one
    trained."""
    assert figures["kills"]["kills"] == COUNTS["kills"]
    assert {name for name in figures["kills"] if name.startswith("kills in")} >= KILLED
    assert (
        sum(figures["calls"].get(name, 0) for name in ("I/O faults", "crash points")) >= COUNTS["calls"] - 2
    )
    assert sum(figures["gc"].get(name, 0) for name in ("I/O faults", "crash points")) >= COUNTS["gc"] - 1
    assert figures["power"]["power losses"] >= COUNTS["power"] - 1
    assert figures["damage"]["damaged"] >= COUNTS["damage"] - 1
    assert figures["clock"]["runs"] == COUNTS["clock"]
    assert figures["collect"]["runs"] == COUNTS["collect"]
    assert figures["crowd"]["processes"] == 8 * figures["crowd"]["trainings"]
