"""What is shown while a sweep runs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from punie.results import files
from punie.results.records import Status
from punie.results.run import STATUS
from punie.results.sweep import SweepPlan
from punie.sweep.watch import View
from tests.unit.sweep.conftest import Planner


def record(plan: SweepPlan, folder: Path, number: int, **status: object) -> None:
    """Let a job's folder say this."""
    place = folder / plan.jobs[number].folder
    place.mkdir(parents=True, exist_ok=True)
    files.write(place / STATUS, Status.model_validate({"schema": 1, **status}))


def test_each_end_is_a_line_and_told_once(planned: Planner, tmp_path: Path) -> None:
    """A job that has ended gives one line with its place and its error; a running one gives none."""
    plan = planned("seed=0,1,2")
    view = View(plan, tmp_path)
    record(plan, tmp_path, 0, status="running", at="train")
    record(plan, tmp_path, 2, status="failed", error="it went wrong\n  where here")
    (line,) = view.look()
    assert line.startswith("[1/3] failed    002-")
    assert line.endswith("seed=2  it went wrong")
    assert view.look() == []
    assert view.counts() == {"running": 1, "failed": 1, "planned": 1}


def test_the_table_fits_a_narrow_terminal(planned: Planner, tmp_path: Path) -> None:
    """Running jobs with their stages in 80 columns: long overrides are cut, four jobs are a number."""
    plan = planned("seed=range(0,13)", f"eval.stop=[{'a' * 90}],[{'b' * 90}]")
    for number in range(12):
        record(plan, tmp_path, number, status="running", at="quantize")
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(View(plan, tmp_path).table())
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[0].startswith("14 planned, 12 running, ")
    assert max(map(len, lines)) <= 80
    assert [line.endswith("quantize") for line in lines[2:10]] == [True] * 8
    assert lines[10:] == ["… and 4 more"]


def test_the_time_left_is_what_such_stages_took(planned: Planner, tmp_path: Path) -> None:
    """Nothing known: no estimate; after one job of three, twice what its stages took."""
    plan = planned("seed=0,1,2")
    assert View(plan, tmp_path).left() is None
    stages = [
        {"stage": part.stage, "key": part.key, "seconds": 10.0, "reused": False}
        for part in plan.parts_of(plan.jobs[0])
    ]
    record(plan, tmp_path, 0, status="finished", stages=stages)
    assert View(plan, tmp_path).left() == 2 * 4 * 10.0
