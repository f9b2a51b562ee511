"""What a summary finds in runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from punie.results.statistics import wilson
from punie.results.summary import documents, tables
from punie.results.summary.summary import Summary, summarize
from punie.util.errors import PunieError

from .conftest import make_run


def table(summary: Summary, name: str) -> tables.Table:
    return summary.tables[name]


def test_scores_of_a_sweep(sweep: Path) -> None:
    """Seeds are rows and temperatures columns; failed and never started jobs stand in their own cells."""
    found = summarize([sweep])
    scores = table(found, "scores")
    assert scores.headers == ("lora.seed", "temperature 0", "temperature 0.7")
    low, high = wilson(0.75, 4)
    assert scores.rows[0][1] == f"0.750 [{low:.2f}, {high:.2f}]"
    assert scores.rows[2] == ("42", "failed", "not started")
    assert table(found, "gaps").rows[0][1:] == ("failed", "The training diverged.")
    assert "lora.seed and eval.seed change together; the tables show the first." in found.notes


def test_prompts_that_flip(sweep: Path) -> None:
    """The prompt that one seed solves and another does not is named, with what it flips across."""
    flips = table(summarize([sweep]), "stability")
    assert flips.rows == (("x", "git", "0.50", "0.50", "seeds"),)
    assert flips.notes == ("1 of 4 prompts flip.",)


def test_flips_across_temperatures_and_repeats(tmp_path: Path) -> None:
    """A prompt that changes with the temperature, or from repeat to repeat, is said to."""
    make_run(tmp_path / "a", {"x": [1.0, 1.0], "y": [1.0, 1.0]})
    make_run(tmp_path / "b", {"x": [0.0, 0.0], "y": [1.0, 0.0]}, eval__temperature=0.5)
    rows = {row[0]: row[-1] for row in table(summarize([tmp_path]), "stability").rows}
    assert rows == {"x": "temperatures", "y": "repeats and temperatures"}


def test_categories_and_taxonomy(sweep: Path) -> None:
    """Categories and the taxonomy are counted over all seeds of a temperature."""
    found = summarize([sweep])
    assert table(found, "categories").rows[0][:2] == ("git", "4")
    assert table(found, "categories").rows[0][2].startswith("0.625 ")
    rows = {row[0]: row[1:] for row in table(found, "taxonomy").rows}
    assert rows == {"correct": ("5 (62%)", "5 (62%)"), "no call": ("3 (38%)", "3 (38%)")}


def test_axes_asked_for(sweep: Path) -> None:
    """--by swaps rows and columns, and one axis alone pools the other and says so."""
    swapped = table(summarize([sweep], by=["temperature", "lora.seed"]), "scores")
    assert swapped.headers == ("eval.temperature", "seed 0", "seed 1", "seed 42")
    alone = table(summarize([sweep], by=["temperature"]), "scores")
    assert [row[1].split()[0] for row in alone.rows] == ["0.625", "0.625"]
    assert alone.rows[0][1].endswith(", 1 failed")
    assert alone.notes[-1] == "Each cell is the mean over lora.seed."
    in_step = table(summarize([sweep], by=["eval.seed"]), "scores")
    assert in_step.notes[-1] == "Each cell is the mean over eval.temperature."
    for by in (["lora.seed", "temperature", "quantize.bits"], ["temperature", "temperature"]):
        with pytest.raises(PunieError):
            summarize([sweep], by=by)


def test_conditions(sweep: Path) -> None:
    """--where keeps the runs that meet every condition, 0 being 0.0; one that none meets is refused."""
    found = summarize([sweep], where=["temperature=0", "lora.seed=1"])
    assert [Path(run.run).name for run in found.runs] == ["002-ab"]
    with pytest.raises(PunieError, match=r"No run has eval.temperature=0.3") as caught:
        summarize([sweep], where=["temperature=0.3"])
    assert caught.value.found == "0, 0.7"
    with pytest.raises(PunieError, match="KEY=VALUE"):
        summarize([sweep], where=["temperature"])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("strict", "0.500"), ("keyword", "0.750"), ("wrapper", "1.000"), ("lock", "0.250")],
)
def test_metrics(tmp_path: Path, metric: str, expected: str) -> None:
    """Each metric is the mean of its own figures."""
    make_run(tmp_path / "a", {"x": 1.0, "y": 0.0}, lock=0.25)
    assert table(summarize([tmp_path], metric=metric), "scores").rows[0][-1].startswith(expected)


def test_a_metric_that_no_run_has(tmp_path: Path) -> None:
    """A lock that was not computed is not shown as zero, but refused."""
    make_run(tmp_path / "a", {"x": 1.0})
    with pytest.raises(PunieError, match="No run here has a lock"):
        summarize([tmp_path], metric="lock")


def test_mixed_suites(tmp_path: Path) -> None:
    """Runs on two suites are refused, unless one is chosen or they are wanted side by side."""
    make_run(tmp_path / "a", {"x": 1.0, "y": 1.0})
    make_run(tmp_path / "b", {"x": 0.0, "y": 1.0}, suite="other")
    with pytest.raises(PunieError, match="different suites") as caught:
        summarize([tmp_path])
    assert "--allow-mixed" in str(caught.value)
    assert len(summarize([tmp_path], where=["eval.suite=other"]).runs) == 1
    mixed = summarize([tmp_path], allow_mixed=True)
    assert [row[:2] for row in table(mixed, "recipes").rows] == [
        ("eval.suite=four", "0"),
        ("eval.suite=other", "0"),
    ]
    pooled = table(summarize([tmp_path], allow_mixed=True, by=["quantize.bits"]), "scores")
    assert pooled.rows[0][1].startswith("0.750 ")


def test_the_score_of_the_phase(tmp_path: Path) -> None:
    """Runs of one phase are summarized by the score its criteria speak of."""
    phase = {"id": "1", "score": "keyword", "criteria": [{"metric": "overall", "op": ">=", "value": 0.8}]}
    make_run(tmp_path / "a", {"x": 1.0, "y": 0.0}, phase=phase)
    found = summarize([tmp_path])
    assert found.metric == "keyword"
    assert ", which includes 0.8; excluding it needs" in found.conclusions[0]


def test_recipes_that_take_many_words_are_numbered(tmp_path: Path) -> None:
    """Recipes of several axes have numbers, and a table says what each stands for."""
    for rank, iters, bits in ((8, 100, 5), (8, 200, 5), (16, 100, 4)):
        place = tmp_path / f"{rank}-{iters}"
        make_run(place, {"x": 1.0, "y": 0.0}, lora__rank=rank, lora__iters=iters, quantize__bits=bits)
    found = table(summarize([tmp_path]), "legend")
    assert found.headers == ("recipe", "lora.rank", "lora.iters")
    assert found.rows == (("recipe 1", "8", "100"), ("recipe 2", "8", "200"), ("recipe 3", "16", "100"))
    assert [row[0] for row in table(summarize([tmp_path]), "recipes").rows] == [
        "recipe 1",
        "recipe 2",
        "recipe 3",
    ]


def test_runs_that_differ_in_nothing(tmp_path: Path) -> None:
    """Two runs with the same settings and other keys are not silently one: the reader is told."""
    make_run(tmp_path / "a", {"x": 1.0, "y": 1.0})
    make_run(tmp_path / "b", {"x": 0.0, "y": 1.0})
    assert any(note.startswith("2 runs differ in no setting") for note in summarize([tmp_path]).notes)


RARE = {"metric": "seeds_reaching_criteria", "at_least": None, "below": 2, "verdict": "rare", "next": "43b"}
PHASE = {
    "id": "46",
    "score": "strict",
    "sweep": True,
    "criteria": [{"metric": "overall", "op": ">=", "value": 0.8}],
    "outcomes": [RARE],
}


def test_a_summary_ends_with_the_next_phase(tmp_path: Path) -> None:
    """Runs of one phase come to its outcome and the next command, which a part of them does not."""
    for seed in (0, 1):
        make_run(tmp_path / f"{seed}", {"x": 0.0, "y": 0.0}, lora__seed=seed, seed=seed, phase=PHASE)
    found = summarize([tmp_path])
    assert found.outcome_in_words[0] == "phase 46: rare"
    assert found.outcome_in_words[-1].startswith("next: python -m punie +phase=43b")
    assert documents.render(found, "simple", start=tmp_path).endswith(found.outcome_in_words[-1] + "\n")
    assert summarize([tmp_path], where=["lora.seed=0"]).outcome_in_words == []


def test_two_recipes_are_not_one_sweep_of_a_phase(tmp_path: Path) -> None:
    """Runs that differ in more than the phase's own sweep have no outcome in common."""
    for rank in (8, 16):
        make_run(tmp_path / f"{rank}", {"x": 1.0}, lora__rank=rank, phase=PHASE)
    assert summarize([tmp_path]).outcome is None
