"""Verdicts and gates: what was decided before the run, applied to its scores; and the tree of phases."""

from __future__ import annotations

import pytest

from punie.config import resolve
from punie.config.command import quote_options
from punie.config.compose import compose
from punie.config.presets import presets
from punie.results.config import phase_record
from punie.results.records import Estimate, Missing, Score, Scores
from punie.results.verdict import decide, fits, gate, judge, prompts
from tests.unit.results.made import NOTHING, phase, results, scores


def test_a_threshold_is_met_at_its_value_and_beyond_it_only_when_strict() -> None:
    """``>=`` holds at the value, also for a mean that is a hair below it by rounding; ``>`` does not."""
    at_least = phase(criteria=[{"metric": "overall", "op": ">=", "value": 0.6}])
    above = phase(criteria=[{"metric": "overall", "op": ">", "value": 0.6}])
    hair_below = sum([0.1] * 10) * 0.6
    assert hair_below < 0.6
    assert judge(scores(hair_below), at_least).passed is True
    assert judge(scores(0.6), above).passed is False
    assert judge(scores(0.61), above).passed is True


def test_every_miss_is_named_with_its_figure() -> None:
    """The summary says how many criteria were missed, which, and by what."""
    criteria = [("overall", 0.8), ("categories.lsp", 0.9), ("categories.git", 1.0)]
    given = phase(criteria=[{"metric": metric, "op": ">=", "value": value} for metric, value in criteria])
    verdict = judge(scores(0.9, lsp=0.5), given)
    assert verdict.passed is False
    for words in ("2 of 3 criteria missed", "lsp 0.500 (needs >= 0.9)", "git not measured"):
        assert words in verdict.summary


@pytest.mark.parametrize(
    ("overall", "outcome"), [(0.8, "viable"), (0.79, "undecided"), (0.5, "undecided"), (0.49, "needed")]
)
def test_outcomes_go_by_range(overall: float, outcome: str) -> None:
    """The first range that holds the figure gives the outcome; a figure of a sweep gives none."""
    given = phase(
        outcomes=[
            {"metric": "seeds_reaching_criteria", "at_least": 0.0, "verdict": "of the sweep"},
            {"metric": "overall", "at_least": 0.8, "verdict": "viable"},
            {"metric": "overall", "below": 0.5, "verdict": "needed"},
            {"metric": "overall", "at_least": 0.5, "below": 0.8, "verdict": "undecided"},
        ]
    )
    assert judge(scores(overall), given).outcome == outcome


def test_no_phase_no_verdict() -> None:
    """A run without criteria neither passes nor fails."""
    assert judge(scores(1.0), None).passed is None


@pytest.mark.parametrize(("responses", "expected"), [(135, 27), (134, 27), (2, 1)])
def test_prompts_of_repeated_responses(responses: int, expected: int) -> None:
    """A response that is missing takes no prompt away."""
    assert prompts(Estimate(mean=1.0, n=responses), results(1.0, repeats=5)) == expected


@pytest.mark.parametrize(
    ("score", "on", "under", "passes"),
    [
        ("strict", "estimate", 0.82, True),
        ("strict", "estimate", 0.83, False),
        ("strict", "lower_bound", 0.64, True),
        ("strict", "lower_bound", 0.65, False),
        ("keyword", "lower_bound", 0.72, True),
        ("keyword", "lower_bound", 0.73, False),
    ],
)
def test_what_must_reach_the_gate(score: str, on: str, under: float, passes: bool) -> None:
    """The mean, or the lower end of its interval: Wilson's for strict, 1.96 standard errors for keyword."""
    assert (gate(measured(0.82, 0.05), score=score, under=under, on=on) is None) == passes


def test_no_score_does_not_pass() -> None:
    """A run with missing responses, or with one prompt and no error, fails whatever is asked."""
    found = gate(measured(None, None), score="strict", under=0.0, on="estimate")
    assert "2 responses are missing" in (found or "")
    assert gate(measured(0.9, None), score="keyword", under=0.0, on="lower_bound")


def measured(mean: float | None, stderr: float | None) -> Scores:
    overall = Estimate(mean=mean, n=27, stderr=stderr, interval=(0.64, 0.92))
    score = Score(overall=overall, categories={})
    missing = Missing(count=2, reasons={"gone": 2})
    return Scores.model_validate(
        {**NOTHING, "scores": {"strict": score, "keyword": score}, "missing": missing}
    )


def decided(name: str, figure: float, *overrides: str) -> str:
    """What follows from the first outcome whose range holds the figure."""
    given = phase_record(presets()[name].phase)
    assert given
    found = decide(given, next(each.verdict for each in given.outcomes if fits(each, figure)), overrides)
    assert found
    assert (decide(given, None), decide(given, "of another time")) == (None, None)
    return found


@pytest.mark.parametrize(
    ("name", "figure", "words"),
    [
        ("45", 0.8, "nothing, the tree of phases ends here (45: "),
        ("45", 0.79, "python -m punie -m +phase=46  (45 → 46)"),
        ("46", 3, "nothing, the tree of phases ends here (45 → 46: "),
        ("46", 2, "python -m punie -m +phase=46 seed=4,5,6,7,8  (45 → 46 → 46)"),
        ("46", 1, "python -m punie +phase=43b  (45 → 46 → 43b)"),
        ("43b", 0.8, "nothing, the tree of phases ends here (45 → 46 → 43b: dense is viable)"),
        ("43b", 0.6, "nothing"),
        ("43b", 0.49, "nothing"),
    ],
)
def test_what_a_figure_leads_to(name: str, figure: float, words: str) -> None:
    """Each pre-registered threshold leads to its phase, from the root of the tree, by its command."""
    assert decided(name, figure).startswith(words)


def test_what_it_ran_on_is_carried_on() -> None:
    """Overrides of model and data hold for the next phase; those of the recipe and the phase do not."""
    overrides = ["+phase='45'", "model=tiny", "+data.mix.none=0.5", "lora.iters=3", "data.path=my data"]
    command, _, _ = decided("45", 0.1, *overrides).partition("  (")
    assert command == "python -m punie -m +phase=46 model=tiny +data.mix.none=0.5 'data.path=my data'"


@pytest.mark.parametrize("name", presets())
def test_a_preset_read_is_the_preset_composed(name: str) -> None:
    """What is read from the file alone is what Hydra composes, so the tree is that of the runs."""
    config = resolve(compose(quote_options([f"+phase={name}"])))
    assert presets()[name].phase == config.phase
    assert presets()[name].groups.keys() == {"model", "data", "lora", "quantize", "eval"}
    assert bool(presets()[name].axes) is presets()[name].phase.sweep
