"""What scores decide, and what they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from punie.results.statistics import bootstrap, holm, paired, seed_spread
from punie.results.summary.summary import Summary, summarize

from .conftest import make_run

PROMPTS = [f"p{number:02d}" for number in range(10)]


def answers(right: int) -> dict[str, float]:
    """Ten prompts, the first of them right."""
    return {name: float(number < right) for number, name in enumerate(PROMPTS)}


def seeds(tmp_path: Path, *right: int, **overrides: Any) -> Summary:
    for seed, number in enumerate(right):
        make_run(tmp_path / f"{seed}", answers(number), lora__seed=seed, eval__seed=seed, **overrides)
    return summarize([tmp_path])


def phase(value: float) -> dict[str, Any]:
    return {"id": "1", "score": "strict", "criteria": [{"metric": "overall", "op": ">=", "value": value}]}


def test_one_seed_has_no_interval_over_seeds(tmp_path: Path) -> None:
    """With one training seed there is no range for one more, and the verdict says so; prompts have theirs."""
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
    assert finding.interval == bootstrap(table, shared_seeds=True)
    assert (finding.mean, finding.by_seed) == (pytest.approx(0.7), (0.5, 0.7, 0.9))


@pytest.mark.parametrize(
    ("right", "threshold", "words"),
    [
        ((6, 7, 6, 7, 6), 0.3, ", at least 0.3."),
        ((6, 7, 6, 7, 6), 0.95, ", below 0.95."),
        ((3, 9, 5), 0.7, ", which includes 0.7."),
        ((7, 7, 7), 0.7, "no prediction interval for a new seed"),
    ],
)
def test_reproducing(tmp_path: Path, right: tuple[int, ...], threshold: float, words: str) -> None:
    """A recipe reproduces if one more seed is expected to reach the criterion, not if the mean does."""
    found = seeds(tmp_path, *right, phase=phase(threshold))
    assert words in found.conclusions[0]


def test_prompts_that_would_decide(tmp_path: Path) -> None:
    """What these prompts cannot tell from the criterion comes with the number that could."""
    found = seeds(tmp_path, 7, phase=phase(0.8))
    assert ", which includes 0.8; excluding it needs about 62 prompts." in found.conclusions[0]


def test_repeats(tmp_path: Path) -> None:
    """Repeats at a temperature above 0 give pass^k; at 0 they are no samples, and narrow nothing."""
    greedy = {name: [value, value] for name, value in answers(6).items()}
    make_run(tmp_path / "zero" / "a", greedy)
    (zero,) = summarize([tmp_path / "zero"]).findings
    make_run(tmp_path / "once" / "a", answers(6))
    (once,) = summarize([tmp_path / "once"]).findings
    assert (zero.pass_hat, zero.repeated_at_zero) == ({}, True)
    assert zero.interval == once.interval
    assert (
        "Repeats at temperature 0 gave the same scores; they are not counted as samples."
        in summarize([tmp_path / "zero"]).conclusions[0]
    )
    sampled = {name: [value, 1.0] for name, value in answers(6).items()}
    make_run(tmp_path / "warm" / "a", sampled, eval__temperature=0.7)
    (warm,) = summarize([tmp_path / "warm"]).findings
    assert warm.pass_hat == {1: pytest.approx(0.8), 2: pytest.approx(0.6)}


def test_seeds_of_sampling_are_repeats(tmp_path: Path) -> None:
    """Runs that differ in the seed of sampling only are one training seed, and no interval over seeds."""
    for seed in (0, 1, 2):
        make_run(tmp_path / f"{seed}", answers(5 + seed), eval__seed=seed, eval__temperature=0.7)
    (finding,) = summarize([tmp_path]).findings
    assert (finding.seeds, finding.spread) == ((0,), None)
    assert finding.pass_hat[3] == pytest.approx(0.5)


def test_temperatures_are_compared_with_holm(tmp_path: Path) -> None:
    """Each temperature is paired with the lowest, its p-value is Holm's, and MDE and prompts stand beside."""
    for place, (temperature, right) in enumerate(((0.0, 10), (0.5, 9), (0.7, 2))):
        make_run(tmp_path / f"{place}", answers(right), eval__temperature=temperature)
    found = summarize([tmp_path])
    tests = [
        paired({k: [v] for k, v in answers(10).items()}, {k: [v] for k, v in answers(right).items()})
        for right in (9, 2)
    ]
    assert [each.test for each in found.comparisons] == tests
    assert [each.adjusted for each in found.comparisons] == holm([test.p_value for test in tests])
    assert found.comparisons[0].needed is not None
    assert found.comparisons[0].detectable == pytest.approx(2.8016 * (0.1 / 10) ** 0.5, abs=1e-4)
    decided, undecided = found.conclusions[-2:]
    assert decided.startswith("Strict differs significantly on these prompts: ")
    assert "temperature 0 → 0.7 by -0.800 (p 0.016), each p adjusted for 2 comparisons" in decided
    assert "does not differ significantly: temperature 0 → 0.5 by -0.100 (p 1.000)" in undecided
    assert undecided.endswith(
        "Minimum detectable difference: 0.28 (10 prompts, 80 % power). Detecting 0.100 needs 79 prompts."
    )


def test_recipes_of_one_seed_are_two_trainings(tmp_path: Path) -> None:
    """A difference between recipes with one seed each is said to be one of two trainings."""
    for rank, right in ((8, 2), (16, 9)):
        make_run(tmp_path / f"{rank}", answers(right), lora__rank=rank)
    (comparison,) = summarize([tmp_path]).comparisons
    assert (comparison.a, comparison.b) == ("lora.rank=8", "lora.rank=16")
    assert comparison.means == (pytest.approx(0.2), pytest.approx(0.9))
    assert "may come from the seed and not from the recipe" in summarize([tmp_path]).conclusions[-1]


def test_only_common_seeds_are_compared(tmp_path: Path) -> None:
    """A seed that one side lacks plays no part in a comparison."""
    for rank, seed, right in ((8, 0, 5), (8, 1, 9), (16, 0, 5)):
        make_run(tmp_path / f"{rank}-{seed}", answers(right), lora__rank=rank, lora__seed=seed)
    (comparison,) = summarize([tmp_path]).comparisons
    assert (comparison.seeds, comparison.test.difference.estimate) == (1, 0.0)
    assert (comparison.detectable, comparison.needed) == (None, None)


def test_nothing_to_decide(tmp_path: Path) -> None:
    """Without a finished run there is no verdict."""
    make_run(tmp_path / "a", {}, status="failed")
    assert summarize([tmp_path]).conclusions == ("No run here has a score.",)
    assert summarize([tmp_path]).comparisons == ()
