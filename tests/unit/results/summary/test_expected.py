"""What a sweep or a phase will be able to show, before it runs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from punie.results.config import RunConfig
from punie.results.power import ALPHA, needed, smallest_difference
from punie.results.records import Phase
from punie.results.summary.expected import TINY, Expected, expected, in_words, measured
from punie.util.errors import DataError
from tests.unit.results.made import phase

from .conftest import changed, make_runs

STRICT = TINY["strict"]


def planned(ranks: int, seeds: int, *temperatures: float, of: Phase | None = None) -> Expected:
    """What a sweep over ranks, seeds and temperatures will show on 27 prompts."""
    axes = itertools.product(range(ranks), range(seeds), temperatures or (0.7,))
    configs = [
        RunConfig(changed({"lora.rank": rank + 1, "lora.seed": seed, "eval.temperature": temperature}))
        for rank, seed, temperature in axes
    ]
    return expected(configs, 27, of, STRICT, "strict")


def test_recipes_and_temperatures_have_a_smallest_difference() -> None:
    """It is that of the test which decides, at the level that Holm's first comparison has."""
    found = planned(3, 5, 0.0, 0.7)
    temperatures, recipes = found.questions
    assert (recipes.about, recipes.seeds, recipes.comparisons) == ("between recipes", 5, 2 * 3)
    assert recipes.smallest == smallest_difference(STRICT.of("recipes", 27, 5), ALPHA / 6)
    assert temperatures.smallest == smallest_difference(STRICT.of("temperatures", 27, 5), ALPHA)
    cells = {(prompts, seeds): smallest for prompts, seeds, smallest in found.table}
    assert cells[27, 5] == recipes.smallest
    known = {place: 2.0 if smallest is None else smallest for place, smallest in cells.items()}
    assert known[270, 10] < known[27, 10] < known[27, 3]
    assert known[270, 10] < known[270, 5] <= known[27, 5]


def test_one_seed_cannot_show_a_difference_of_recipes() -> None:
    """With one training seed there is no such comparison, and the plan says so."""
    found = planned(2, 1)
    assert found.questions == ()
    assert "it may be the seed's" in in_words(found)


@pytest.mark.parametrize(("published", "enough"), [(0.81, False), (0.1, True)])
def test_a_phase_says_what_its_hypothesis_needs(published: float, enough: bool) -> None:
    """For each bound of the overall score: what is detected, and what the published score needs."""
    criterion = {"metric": "overall", "op": ">=", "value": 0.8}
    baseline = {"source": "a paper", "overall": published}
    (question,) = planned(1, 3, of=phase(criteria=[criterion], baseline=baseline, sweep=True)).questions
    assert question.about == "the mean against 0.8"
    assert question.smallest == smallest_difference(STRICT.of("one recipe", 27, 3))
    if enough:
        assert question.difference is None
    else:
        assert question.prompts == needed(STRICT.of("one recipe", 27, 3), abs(0.81 - 0.8), "prompts")
        assert question.prompts is None or question.prompts > 1_000


def scored(rng: np.random.Generator, rank: int, seed: int) -> dict[str, Any]:
    """A run of 40 prompts, of which some are hard; the rank matters."""
    rates = np.linspace(0.1, 1, 40) - 0.1 * rank
    answers = {f"p{n:02d}": float(rng.random() < rate) for n, rate in enumerate(rates)}
    return {"answers": answers, "lora__rank": rank, "lora__seed": seed, "eval__seed": seed}


def test_variances_of_earlier_runs(tmp_path: Path) -> None:
    """Components are those of the runs; what they do not show is tiny's, and one seed is refused."""
    rng = np.random.default_rng(0)
    make_runs(tmp_path / "two", *(scored(rng, rank, seed) for rank in (0, 1) for seed in range(4)))
    found = measured([tmp_path / "two"], "strict")
    assert found.source == str(tmp_path / "two")
    assert found.designs["recipes"].rest == pytest.approx(found.designs["one recipe"].rest)
    assert 0.05 < found.designs["one recipe"].rest < 0.2
    assert found.designs["temperatures"] == STRICT.designs["temperatures"]
    make_runs(tmp_path / "one", scored(rng, 1, 0))
    with pytest.raises(DataError, match="do not show how much training seeds vary"):
        measured([tmp_path / "one"], "strict")
