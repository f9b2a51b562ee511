"""What a summary finds in runs, and what it concludes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from punie.results import files
from punie.results.crossed import mean_interval
from punie.results.statistics import holm, paired, seed_spread, wilson
from punie.results.summary import documents
from punie.results.summary.findings import pairs_of
from punie.results.summary.summary import Summary, summarize
from punie.util.errors import PunieError
from tests.unit.results.made import amend, conversation

from .conftest import make_run, make_runs

PROMPTS = [f"p{number:02d}" for number in range(10)]
RARE = {"metric": "seeds_reaching_criteria", "at_least": None, "below": 2, "verdict": "rare", "next": "43b"}
SWEPT: dict[str, Any] = {"id": "46", "sweep": True, "outcomes": [RARE]}


def rows(summary: Summary, name: str) -> tuple[tuple[str, ...], ...]:
    return summary.tables[name].rows


def first(right: int) -> dict[str, float]:
    """Ten prompts, the first of them right."""
    return {name: float(number < right) for number, name in enumerate(PROMPTS)}


def seeds(tmp_path: Path, *right: int, **common: Any) -> Summary:
    runs = [{"answers": first(n), "lora__seed": seed, "eval__seed": seed} for seed, n in enumerate(right)]
    return summarize([make_runs(tmp_path, *runs, **common)])


def phase(value: float, score: str = "strict", **more: Any) -> dict[str, Any]:
    criteria = [{"metric": "overall", "op": ">=", "value": value}]
    return {"id": "1", "score": score, "criteria": criteria, **more}


def test_tables_of_a_sweep(sweep: Path) -> None:
    """Seeds are rows and temperatures columns; failed and never started jobs stand in their own cells."""
    found = summarize([sweep])
    assert found.tables["scores"].headers == ("lora.seed", "temperature 0", "temperature 0.7")
    low, high = wilson(0.75, 4)
    assert rows(found, "scores")[0][1] == f"0.750 [{low:.2f}, {high:.2f}]"
    assert rows(found, "scores")[2] == ("42", "failed", "not started")
    assert rows(found, "gaps")[0][1:] == ("failed", "The training diverged.")
    assert "lora.seed and eval.seed change together; the tables show the first." in found.notes
    assert rows(found, "stability") == (("x", "git", "0.50", "0.50", "seeds"),)
    assert found.tables["stability"].notes == ("1 of 4 prompts flip.",)
    ((*head, mean, _),) = rows(found, "categories")
    assert (head, mean.split()[0]) == (["git", "4"], "0.625")
    assert rows(found, "taxonomy") == (("correct", "5 (62%)", "5 (62%)"), ("no call", "3 (38%)", "3 (38%)"))


def test_rates_of_wrong_decisions(sweep: Path) -> None:
    """They have their counts and Wilson's interval over prompts; a rate without items has no row."""
    low, high = wilson(0.375, 4)
    cell = f"3 of 8: 0.375 [{low:.2f}, {high:.2f}]"
    assert rows(summarize([sweep]), "rates") == (("unwanted calls", cell, cell),)
    contrast, *_ = summarize([sweep], metric="unwanted").comparisons
    assert contrast.means == (0.375, 0.375)


def test_conversations_by_turn(tmp_path: Path) -> None:
    """Each turn has a row over all conversations, and one over those that reached it; a rate counts a
    conversation once for each repeat."""
    values = ((1.0, 1.0, 1.0), (1.0, 0.0), (0.0,))
    folder = make_run(tmp_path / "a", {"x": 1.0})
    talks = [conversation(*each, repeat=repeat) for repeat, each in enumerate(values)]
    files.write_samples(folder / "samples.jsonl", talks)
    amend(folder / "results.json", generation__samples=3)
    found = summarize([tmp_path])
    cells = {row[0]: row[1].split(":")[0] for row in rows(found, "turns")}
    assert cells == {
        "turn 1, of all": "2 of 3", "turn 1, of those reached": "2 of 3",
        "turn 2, of all": "1 of 3", "turn 2, of those reached": "1 of 2",
        "turn 3, of all": "1 of 3", "turn 3, of those reached": "1 of 1",
    }  # fmt: skip
    assert [row[1].split(":")[0] for row in rows(found, "rates")] == ["1 of 2", "0 of 3"]


def test_decisions_on_shipping(tmp_path: Path) -> None:
    """Their number by recipe and temperature, and the criteria that were not met; none without decisions."""
    row = {"metric": "unwanted", "units": 2, "change": 0.5, "interval": [0.2, 0.8], "limit": 0.1,
           "rises": False, "met": False, "detectable": 0.1}  # fmt: skip
    for seed, decision in enumerate(("HOLD", "SHIP", None)):
        folder = make_run(tmp_path / str(seed), {"x": seed / 2}, lora__seed=seed)
        if decision:
            rows_ = [{**row, "met": decision == "SHIP"}]
            amend(folder / "results.json", ship={"preset": "own", "decision": decision, "rows": rows_})
    assert rows(summarize([tmp_path]), "ships") == (("0", "1", "1", "0", "unwanted calls (1)"),)
    assert "ships" not in summarize([tmp_path / "2"]).tables


def test_flips_across_temperatures_and_repeats(tmp_path: Path) -> None:
    """A prompt that changes with the temperature, or from repeat to repeat, is said to."""
    warm = {"answers": {"x": [0.0, 0.0], "y": [1.0, 0.0]}, "eval__temperature": 0.5}
    make_runs(tmp_path, {"answers": {"x": [1.0, 1.0], "y": [1.0, 1.0]}}, warm)
    flips = {row[0]: row[-1] for row in rows(summarize([tmp_path]), "stability")}
    assert flips == {"x": "temperatures", "y": "repeats and temperatures"}


def test_axes_asked_for(sweep: Path) -> None:
    """--by swaps rows and columns, and one axis alone pools the other and says so."""
    swapped = summarize([sweep], by=["temperature", "lora.seed"]).tables["scores"]
    assert swapped.headers == ("eval.temperature", "seed 0", "seed 1", "seed 42")
    alone = summarize([sweep], by=["temperature"]).tables["scores"]
    assert [row[1].split()[0] for row in alone.rows] == ["0.625", "0.625"]
    assert alone.rows[0][1].endswith(", 1 failed")
    assert alone.notes[-1] == "Each cell is the mean over lora.seed."
    in_step = summarize([sweep], by=["eval.seed"]).tables["scores"]
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


def test_metrics(tmp_path: Path) -> None:
    """Each metric is the mean of its own figures; one that was not computed is refused and is not zero."""
    make_run(tmp_path / "a", {"x": 1.0, "y": 0.0}, lock=0.25)
    expected = {"strict": "0.500", "keyword": "0.750", "wrapper": "1.000", "lock": "0.250"}
    for metric, mean in expected.items():
        assert rows(summarize([tmp_path], metric=metric), "scores")[0][-1].startswith(mean)
    make_run(tmp_path / "a", {"x": 1.0})
    with pytest.raises(PunieError, match="No run here has a lock"):
        summarize([tmp_path], metric="lock")


def test_mixed_suites(tmp_path: Path) -> None:
    """Runs on two suites are refused, unless one is chosen or they are wanted side by side."""
    other = {"answers": {"x": 0.0, "y": 1.0}, "suite": "other"}
    make_runs(tmp_path, {"answers": {"x": 1.0, "y": 1.0}}, other)
    with pytest.raises(PunieError, match="different suites") as caught:
        summarize([tmp_path])
    assert "--allow-mixed" in str(caught.value)
    assert len(summarize([tmp_path], where=["eval.suite=other"]).runs) == 1
    mixed = rows(summarize([tmp_path], allow_mixed=True), "recipes")
    assert [row[:2] for row in mixed] == [("eval.suite=four", "0"), ("eval.suite=other", "0")]
    pooled = summarize([tmp_path], allow_mixed=True, by=["quantize.bits"])
    assert rows(pooled, "scores")[0][1].startswith("0.750 ")


def test_recipes_keep_their_names_and_all_pairs_are_compared(tmp_path: Path) -> None:
    """Recipes of several axes are called by their values; each is compared with each."""
    settings = ((8, 100, 5), (8, 200, 5), (16, 100, 4))
    runs = [{"lora__rank": r, "lora__iters": i, "quantize__bits": b} for r, i, b in settings]
    found = summarize([make_runs(tmp_path, *runs, answers={"x": 1.0, "y": 0.0})])
    names = ["lora.rank=8, lora.iters=100", "lora.rank=8, lora.iters=200", "lora.rank=16, lora.iters=100"]
    assert [row[0] for row in rows(found, "recipes")] == names
    assert [(each.a, each.b) for each in found.comparisons] == list(itertools.combinations(names, 2))
    assert (
        "lora.rank and quantize.bits change together: a difference may come from any of them."
        in found.conclusions
    )


def test_too_many_pairs_are_said_to_be_left_out() -> None:
    """Up to 100 comparisons take all pairs; of more, only those with the first, and it is said."""
    assert [len(pairs_of(14)[0]), pairs_of(14)[1]] == [91, 0]
    pairs, left_out = pairs_of(20)
    assert (pairs, left_out) == ([(0, other) for other in range(1, 20)], 190 - 19)
    assert pairs_of(10, temperatures=4) == ([(0, other) for other in range(1, 10)], 45 - 9)


RANKS = {4: ((6, 7, 8), (8, 9, 7)), 16: ((1, 5, 9), (3, 1, 2))}
"""By rank, the prompts that are right with each of three seeds: once varying, once alike."""


@pytest.mark.parametrize(("kind", "called"), [(0, False), (1, True)])
def test_a_difference_has_to_hold_with_seeds_random(tmp_path: Path, kind: int, called: bool) -> None:
    """A difference of these models is one of their recipes only where it exceeds what seeds do."""
    runs = [
        {"answers": first(right), "lora__rank": rank, "lora__seed": seed, "eval__seed": seed}
        for rank, found in RANKS.items()
        for seed, right in enumerate(found[kind])
    ]
    found = summarize([make_runs(tmp_path, *runs, eval__temperature=0.7)])
    (pair,) = found.comparisons
    assert pair.crossed is not None
    assert pair.p_value == max(pair.test.p_value, pair.crossed.p_value)
    assert (pair.adjusted <= 0.05) == called
    said = " ".join(found.conclusions)
    assert ("Strict differs significantly over prompts and training seeds" in said) == called
    assert ("does not differ significantly over prompts and training seeds" in said) == (not called)
    assert "; keyword -0." in said  # the other score stands beside it
    assert "With 3 training seeds a difference between recipes needs at least 2.3 standard deviations" in said
    assert "The ranks share lora.scale=20" in said
    assert "lora.seed and eval.seed change together" in said


def test_models_that_differ_are_not_yet_recipes_that_do(tmp_path: Path) -> None:
    """Where the prompts alone show a difference and prompts with seeds do not, both are answered."""
    right = {4: (9, 8, 4), 16: (4, 1, 2)}
    runs = [
        {"answers": first(n), "lora__rank": rank, "lora__seed": seed}
        for rank, each in right.items()
        for seed, n in enumerate(each)
    ]
    found = summarize([make_runs(tmp_path, *runs)])
    (pair,) = found.comparisons
    assert pair.adjusted_fixed <= 0.05 < pair.adjusted
    (sentence,) = [each for each in found.conclusions if "is not shown" in each]
    assert sentence.startswith(
        "lora.rank=4 → lora.rank=16: these 3 seeds' models differ on prompts like these"
    )


def test_runs_that_differ_in_nothing(tmp_path: Path) -> None:
    """Two runs with the same settings and other keys are not silently one: the reader is told."""
    make_runs(tmp_path, {"answers": {"x": 1.0, "y": 1.0}}, {"answers": {"x": 0.0, "y": 1.0}})
    assert any(note.startswith("2 runs differ in no setting") for note in summarize([tmp_path]).notes)


def test_a_summary_ends_with_the_next_phase(tmp_path: Path) -> None:
    """Runs of one phase come to its outcome and the next command, which a part of them does not."""
    runs = [{"lora__seed": seed, "seed": seed, "answers": {"x": 0.0, "y": 0.0}} for seed in (0, 1)]
    found = summarize([make_runs(tmp_path, *runs, phase=phase(0.8, **SWEPT))])
    assert found.outcome_in_words[0] == "phase 46: rare"
    assert found.outcome_in_words[-1].startswith("next: python -m punie +phase=43b")
    assert documents.render(found, "simple", start=tmp_path).endswith(found.outcome_in_words[-1] + "\n")
    assert summarize([tmp_path], where=["lora.seed=0"]).outcome_in_words == []


def test_two_recipes_are_not_one_sweep_of_a_phase(tmp_path: Path) -> None:
    """Runs that differ in more than the phase's own sweep have no outcome in common."""
    make_runs(tmp_path, {"lora__rank": 8}, {"lora__rank": 16}, phase=phase(0.8, **SWEPT))
    assert summarize([tmp_path]).outcome is None


def test_one_seed_has_no_interval_over_seeds(tmp_path: Path) -> None:
    """With one training seed there is no range for one more, and it is said so; prompts have theirs."""
    found = seeds(tmp_path, 7)
    (finding,) = found.findings
    assert finding.spread is None
    assert finding.interval is not None
    assert "one training seed (0)" in found.conclusions[0]
    assert "prediction interval" not in found.conclusions[0]
    assert "there is no interval over seeds" in found.conclusions[1]


def test_several_seeds(tmp_path: Path) -> None:
    """The range of one more seed and the interval over prompts and seeds are those of the statistics."""
    (finding,) = seeds(tmp_path, 5, 7, 9).findings
    table = {
        name: ("git", {seed: [float(number < right)] for seed, right in enumerate((5, 7, 9))})
        for number, name in enumerate(PROMPTS)
    }
    assert finding.spread == seed_spread(table)
    assert finding.interval == mean_interval(table)
    assert (finding.mean, finding.by_seed) == (pytest.approx(0.7), (0.5, 0.7, 0.9))


@pytest.mark.parametrize(
    ("right", "threshold", "words"),
    [
        ((6, 7, 6, 7, 6), 0.3, ", at least 0.3."),
        ((6, 7, 6, 7, 6), 0.95, ", below 0.95."),
        ((3, 9, 5), 0.7, ", which includes 0.7."),
        ((7, 7, 7), 0.7, "no prediction interval for a new seed"),
        ((7,), 0.8, ", which includes 0.8; excluding it needs about 62 prompts."),
    ],
)
def test_a_criterion(tmp_path: Path, right: tuple[int, ...], threshold: float, words: str) -> None:
    """A recipe reproduces if a new seed is expected to reach the criterion; prompts that decide are given."""
    assert words in seeds(tmp_path, *right, phase=phase(threshold)).conclusions[0]


def test_the_score_of_the_phase(tmp_path: Path) -> None:
    """Runs of one phase are summarized by the score its criteria speak of."""
    found = seeds(tmp_path, 5, phase=phase(0.8, "keyword"))
    assert found.metric == "keyword"
    assert ", which includes 0.8; excluding it needs" in found.conclusions[0]


def test_repeats(tmp_path: Path) -> None:
    """Repeats at a temperature above 0 give pass^k; at 0 they are no samples, and narrow nothing."""
    make_run(tmp_path / "zero/a", {name: [value, value] for name, value in first(6).items()})
    make_run(tmp_path / "once/a", dict(first(6)))
    make_run(
        tmp_path / "warm/a", {name: [value, 1.0] for name, value in first(6).items()}, eval__temperature=0.7
    )
    found = {name: summarize([tmp_path / name]) for name in ("zero", "once", "warm")}
    zero, once, warm = (each.findings[0] for each in found.values())
    assert (zero.pass_hat, zero.repeated_at_zero) == ({}, True)
    assert zero.interval == once.interval
    words = "Repeats at temperature 0 gave the same scores; they are not counted as samples."
    assert words in found["zero"].conclusions[0]
    assert warm.pass_hat == {1: pytest.approx(0.8), 2: pytest.approx(0.6)}


def test_seeds_of_sampling_are_repeats(tmp_path: Path) -> None:
    """Runs that differ in the seed of sampling only are one training seed, and no interval over seeds."""
    runs = [{"answers": first(5 + seed), "eval__seed": seed} for seed in (0, 1, 2)]
    (finding,) = summarize([make_runs(tmp_path, *runs, eval__temperature=0.7)]).findings
    assert (finding.seeds, finding.spread) == ((0,), None)
    assert finding.pass_hat[3] == pytest.approx(0.5)


def test_temperatures_are_compared_with_holm(tmp_path: Path) -> None:
    """Each temperature is paired with the lowest, its p-value is Holm's, and MDE and prompts stand beside."""
    pairs = ((0.0, 10), (0.5, 9), (0.7, 2))
    runs = [{"answers": first(right), "eval__temperature": temperature} for temperature, right in pairs]
    found = summarize([make_runs(tmp_path, *runs)])
    cold, *warm = ({name: [value] for name, value in first(right).items()} for _, right in pairs)
    tests = [paired(cold, each) for each in warm]
    assert [each.test for each in found.comparisons] == tests
    assert [each.adjusted for each in found.comparisons] == holm([test.p_value for test in tests])
    assert found.comparisons[0].detectable == pytest.approx(2.8016 * (0.1 / 10) ** 0.5, abs=1e-4)
    decided, undecided = found.conclusions[-2:]
    assert decided.startswith("Strict differs significantly over prompts, for this training: ")
    assert (
        "temperature 0 → 0.7 by -0.800 (p 0.016; keyword -0.400, p 0.008), each p adjusted for 2 comparisons"
        in decided
    )
    words = "does not differ significantly over prompts, for this training: temperature 0 → 0.5 by -0.100"
    assert f"{words} (p 1.000; keyword" in undecided
    assert undecided.endswith(
        "Minimum detectable difference: 0.28 (10 prompts, 80 % power). Detecting 0.100 needs 79 prompts."
    )


def test_recipes_of_one_seed_are_two_trainings(tmp_path: Path) -> None:
    """A difference between recipes with one seed each is said to be one of two trainings."""
    make_runs(tmp_path, *({"answers": first(right), "lora__rank": rank} for rank, right in ((8, 2), (16, 9))))
    found = summarize([tmp_path])
    (comparison,) = found.comparisons
    assert (comparison.a, comparison.b) == ("lora.rank=8", "lora.rank=16")
    assert comparison.means == (pytest.approx(0.2), pytest.approx(0.9))
    assert "may come from the seed and not from the recipe" in found.conclusions[-2]


def test_only_common_seeds_are_compared(tmp_path: Path) -> None:
    """A seed that one side lacks plays no part in a comparison."""
    settings = ((8, 0, 5), (8, 1, 9), (16, 0, 5))
    runs = [{"answers": first(right), "lora__rank": r, "lora__seed": seed} for r, seed, right in settings]
    (comparison,) = summarize([make_runs(tmp_path, *runs)]).comparisons
    assert (comparison.seeds, comparison.test.difference.estimate) == (1, 0.0)
    assert comparison.detectable is None


def test_nothing_to_decide(tmp_path: Path) -> None:
    """Without a finished run there is nothing to conclude."""
    make_run(tmp_path / "a", {}, status="failed")
    found = summarize([tmp_path])
    assert (found.conclusions, found.comparisons) == (("No run here has a score.",), ())
