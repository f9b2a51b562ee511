"""The benchmarks' page: what was measured, all of it, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from punie.util.paths import PACKAGE

ROOT = PACKAGE.parent
FOLDER = ROOT / "benchmarks"
HELPERS = {"__main__", "figures", "models", "page", "peer"}
"""Modules that measure nothing themselves."""


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(FOLDER))  # as for a script of that folder
    try:
        spec = importlib.util.spec_from_file_location("bench", FOLDER / "__main__.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["bench"] = module  # its dataclasses look there for their annotations
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def figures(bench: ModuleType) -> ModuleType:
    return sys.modules["figures"]


@pytest.fixture
def scripts(bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of benchmarks of its own: one that is good, one that breaks after a row, one that hangs."""
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(bench, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(bench, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(bench, "surroundings", lambda: {"machine": machine("one"), "commit": "abc"})
    rows = f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\nfrom figures import Row, report\n"
    (tmp_path / "breaks.py").write_text(
        f"{rows}def found():\n    yield Row('before', [1.0])\n    sys.exit('out of luck')\nreport(found())"
    )
    (tmp_path / "good.py").write_text(
        f"{rows}report([Row('speed', [4.0, 2.0], 's', [8.0, 8.0], at_least=2)])"
    )
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(60)")
    names = {name: bench.Benchmark(name.title()) for name in ("breaks", "good", "hangs")}
    monkeypatch.setattr(bench, "BENCHMARKS", names)
    return tmp_path


def machine(chip: str) -> dict[str, Any]:
    found = {"chip": chip, "cores": 2, "memory_gb": 8.0, "device": "cpu", "system": "Linux", "python": "3.12"}
    versions = {"mlx": "1", "mlx-lm": "2", "numpy": "3", "hydra-core": "4"}
    return {**found, **versions, "blas": "OpenBLAS"}


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_every_script_is_part_of_it(bench: ModuleType) -> None:
    """``make bench`` knows every script of benchmarks/, and gives it options that the script declares."""
    assert {path.stem for path in FOLDER.glob("*.py")} - HELPERS == bench.BENCHMARKS.keys()
    for name, benchmark in bench.BENCHMARKS.items():
        words = f"{benchmark.short or ''} {benchmark.full or ''}".split()
        source = (FOLDER / f"{name}.py").read_text("utf-8")
        assert [word for word in words if word.startswith("--") and f'"{word}"' not in source] == []


def test_the_page_is_what_was_measured(bench: ModuleType) -> None:
    """The page is written from results.json, which has nothing of a script that is gone."""
    known = json.loads(bench.RESULTS.read_text("utf-8")) if bench.RESULTS.exists() else {}
    assert bench.page.text(known, bench.BENCHMARKS) == bench.PAGE.read_text("utf-8"), "make bench ARGS=--page"
    assert known.keys() <= bench.BENCHMARKS.keys()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # how many times faster: the peer's time over ours; medians 3 and 12, pairs 6, 4 and 2
        ({"ours": [2, 3, 8], "peer": [12, 12, 16], "unit": "s", "at_least": 2}, (4, 2, 6)),
        ({"ours": [2, 3, 8], "peer": [4, 4, 16], "unit": "s", "at_most": 2}, (0.75, 0.5, 0.75)),
        ({"ours": [30, 10, 20], "peer": [10, 10, 5], "unit": "tokens/s", "at_least": 1.2}, (2, 1, 4)),
        ({"ours": [10], "peer": [20, 40, 50], "unit": "s", "at_least": 1}, (4, 2, 5)),
        ({"ours": [30, 10], "peer": [20], "unit": "MB"}, (1, 0.5, 1.5)),
        ({"ours": [3, 9, 4]}, (4, 3, 9)),
    ],
)
def test_medians_and_spread(figures: ModuleType, row: dict[str, Any], expected: tuple[float, ...]) -> None:
    """The ratio is that of the medians, the spread that of the rounds, which have to pair."""
    found = figures.Row("it", **row).figure
    assert (found.median, found.low, found.high) == expected
    with pytest.raises(ValueError, match="zip"):
        _ = figures.Row("it", [1, 2], peer=[1, 2, 3]).ratio


@pytest.mark.parametrize(
    ("aims", "holds", "words"),
    [
        ({}, None, ""),
        ({"at_least": 2}, True, "≥ 2 s"),
        ({"at_least": 2.5}, False, "≥ 2.5 s"),
        ({"at_most": 2}, True, "≤ 2 s"),
        ({"at_most": 1.5}, False, "≤ 1.5 s"),
        ({"at_least": 2, "at_most": 2}, True, "= 2 s"),
        ({"at_least": 0.75, "at_most": 1.25}, False, "0.75 to 1.25 s"),
    ],
)
def test_aims(figures: ModuleType, aims: dict[str, float], holds: bool | None, words: str) -> None:
    """A median on its aim keeps it, one beyond misses it, and the table says which."""
    row = figures.Row("it", [1, 2, 9], "s", **aims)
    assert (row.holds, row.aim) == (holds, words)
    assert ("**missed**" in figures.table([row])) == (holds is False)


def test_numbers_have_three_digits(figures: ModuleType) -> None:
    """A figure shows three digits, or all before the point."""
    shown = ["0", "0.141", "1.58", "12.3", "412", "1,771", "5"]
    assert [*map(figures.number, (0, 0.1414, 1.578, 12.34, 412.3, 1771.4, 5))] == shown


def test_a_command_is_shown_without_the_machines_paths(figures: ModuleType, tmp_path: Path) -> None:
    """What the page says of a command works in any checkout."""
    command = [sys.executable, FOLDER / "peer.py", "--model", tmp_path / "model", "--seed", 0]
    assert figures.shown(command, tmp_path) == "python benchmarks/peer.py --model model --seed 0"


def test_a_failure_leaves_the_others(bench: ModuleType, scripts: Path, capsys: pytest.CaptureFixture) -> None:
    """A benchmark that breaks is shown as failed with what it had found; the next are measured; code 1."""
    assert bench.main(["breaks", "good"]) == 1
    found = results(scripts)
    assert [row["what"] for row in found["breaks"]["short"]["rows"]] == ["before"]
    assert found["breaks"]["short"]["error"] == "ended with 1: out of luck"
    assert found["good"]["short"]["error"] is None
    shown = (scripts / "page.md").read_text("utf-8")
    assert "**Failed:** ended with 1: out of luck" in shown
    assert "| speed | 3 s" in " ".join(shown.split())
    assert "Not measured yet: `make bench ARGS=hangs`." in shown
    assert "failed: breaks" in capsys.readouterr().out


def test_a_failure_does_not_take_earlier_figures(bench: ModuleType, scripts: Path) -> None:
    """Figures of an earlier measurement stay when a later one fails, and the page says that it did."""
    assert bench.main(["good"]) == 0
    before = results(scripts)["good"]["short"]
    (scripts / "good.py").write_text("raise SystemExit('not today')")
    assert bench.main(["good"]) == 1
    after = results(scripts)["good"]["short"]
    assert after["rows"] == before["rows"]
    assert after["measured"] == before["measured"]
    assert after["error"].startswith("ended with 1: not today (")


def test_one_measured_again_forgets_no_other(bench: ModuleType, scripts: Path) -> None:
    """What is known of a benchmark that is not asked for stays as it was; ``--page`` measures nothing."""
    bench.main(["good"])
    before = results(scripts)["good"]
    bench.main(["breaks"])
    assert results(scripts)["good"] == before
    (scripts / "page.md").unlink()
    known = results(scripts)
    assert bench.main(["--page"]) == 0
    assert results(scripts) == known
    assert "**1 of 1 aims are held.** Failed: breaks." in (scripts / "page.md").read_text("utf-8")


def test_the_long_form_stays_beside_the_short_one(
    bench: ModuleType, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short form measured again leaves the figures of the long one, and the page shows both."""
    monkeypatch.setattr(bench, "BENCHMARKS", {"good": bench.Benchmark("Good", full="--large")})
    assert [bench.main(["--full"]), bench.main([])] == [0, 0]
    assert results(scripts)["good"].keys() == {"full", "short"}
    shown = (scripts / "page.md").read_text("utf-8")
    assert "good.py --large`" in shown
    assert "**2 of 2 aims are held.**" in shown


def test_one_that_hangs_is_ended(bench: ModuleType, scripts: Path) -> None:
    """A benchmark that takes longer than its limit is ended and shown as failed."""
    assert bench.main(["hangs", "--limit", "0.5"]) == 1
    assert results(scripts)["hangs"]["short"]["error"] == "not done after 0 s"
    assert results(scripts)["hangs"]["short"]["seconds"] < 30


def test_machines_are_told_apart(bench: ModuleType) -> None:
    """Figures of two machines stand on one page, each under its own."""
    common = {"command": "c", "measured": "2026-01-02T03:04:05+00:00", "load": 0.1, "seconds": 1.0,
              "commit": "abc",
              "others": 0.2, "error": None, "rows": []}  # fmt: skip
    known = {name: {"short": {**common, "machine": machine(name)}} for name in ("one", "two")}
    shown = bench.page.text(known, {name: SimpleNamespace(title=name) for name in known})
    assert "Machine A: one, 2 cores" in shown
    assert "2026-01-02 03:04 UTC, machine B, 1 s" in shown


@pytest.fixture(scope="module")
def simulation(figures: ModuleType) -> ModuleType:
    """benchmarks/power.py."""
    spec = importlib.util.spec_from_file_location("simulation", FOLDER / "power.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulation"] = module
    spec.loader.exec_module(module)
    return module


def test_verdicts_are_wrong_as_rarely_as_announced(simulation: ModuleType) -> None:
    """At most 5 % of 200 simulated sweeps call no effect one; about 80 % find the one announced."""
    rng, model = np.random.default_rng(0), simulation.VARYING
    assert simulation.called(simulation.scores(model, rng, 200, 3, (0.0, 0.0))) <= 0.05
    effect = simulation.effect_of(model, simulation.announced(model, 5))
    assert 0.72 <= simulation.called(simulation.scores(model, rng, 200, 5, (0.0, effect))) <= 0.88
