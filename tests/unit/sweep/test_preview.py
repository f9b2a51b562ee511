"""What ``punie plan -m`` shows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from punie.__main__ import main
from punie.results.sweep import SweepPlan
from punie.store.artifacts import Store
from punie.sweep import preview
from tests.unit.sweep.conftest import Planner

AXES = ("seed=0,1,0", "eval.temperature=0.0,0.5")


def build(plan: SweepPlan, *stages: str) -> dict[str, float]:
    """Put empty artifacts of the first job's stages into the store; returns the seconds of each."""
    took = {}
    for part in plan.parts_of(plan.jobs[0]):
        if part.stage in stages:
            assert part.material
            store = Store(Path("outputs/store"))
            made, _ = store.get_or_build(part.stage, part.material, lambda _: time.sleep(0.2))
            took[part.stage] = made.manifest["seconds"]
    return took


def test_an_empty_store_has_all_to_build(planned: Planner) -> None:
    """Four distinct jobs in two waves, two left out; how long is not known, since nothing was built yet."""
    found = preview.figures(planned(*AXES))
    assert (len(found["jobs"]), found["duplicates"], found["waves"]) == (4, 2, [2, 2])
    rows = {row["stage"]: (row["distinct"], row["hit"], row["miss"]) for row in found["stages"]}
    assert (rows["train"], rows["evaluate"]) == ((2, 0, 2), (4, 0, 4))
    assert found["seconds"] is None
    assert "time: unknown" in preview.text(found)


def test_past_timings_give_the_time(planned: Planner) -> None:
    """With one job's stages in the store, its report too, the rest is estimated by what they took."""
    took = build(planned(*AXES), "preflight", "base", "train", "quantize", "evaluate", "report")
    found = preview.figures(planned(*AXES))
    rows = {row["stage"]: row for row in found["stages"]}
    assert (rows["train"]["hit"], rows["train"]["miss"]) == (1, 1)
    assert rows["train"]["reasons"] == ["lora.seed 0 → 1"]
    assert found["waves"] == [2, 2]
    expected = took["train"] + took["quantize"] + 3 * (took["evaluate"] + took["report"])
    assert found["seconds"] == pytest.approx(expected, abs=0.06)
    longer = preview.figures(planned(*AXES, "lora.iters=800"))
    expected = 2 * 2 * took["train"] + 2 * took["quantize"] + 4 * (took["evaluate"] + took["report"])
    assert longer["seconds"] == pytest.approx(expected, abs=0.06)


def test_the_command_prints_it(planned: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    """``plan -m`` prints jobs, stages and the command to go on with; --json has every key."""
    assert main(["plan", "-m", *AXES]) == 0
    shown, words = (
        capsys.readouterr().out,
        ("jobs: 4 (2 duplicates", "2 waves", "next: python -m punie -m seed"),
    )
    assert [word for word in words if word not in shown] == []
    assert main(["plan", "-m", "--json", *AXES]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len({job["stages"]["train"][0] for job in found["jobs"]}) == 2
    assert main(["plan", "-m", "seed=0,x"]) == 2
    assert "job 1" in capsys.readouterr().err


def test_what_stands_in_the_way_is_told_once(planned: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    """Two jobs without their data: one problem, and the exit code is 1."""
    assert main(["plan", "-m", "seed=0,1", "data=jsonl", "data.path=nowhere"]) == 1
    assert capsys.readouterr().out.count("data=jsonl data.path=FOLDER takes yours") == 1
