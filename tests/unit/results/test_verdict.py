"""Verdicts: what was decided before the run, applied to what came out."""

from __future__ import annotations

from typing import Any

import pytest

from punie.results.pages.documents import baseline_sentence
from punie.results.verdict import judge, prompts


def scores(overall: float, **categories: float) -> dict[str, Any]:
    return {
        "keyword": {
            "overall": {"mean": overall},
            "categories": {name: {"mean": value} for name, value in categories.items()},
        }
    }


def phase(**fields: Any) -> dict[str, Any]:
    return {"id": "x", "score": "keyword", "criteria": [], "outcomes": [], **fields}


def test_a_threshold_is_met_at_its_value_and_beyond_it_only_when_strict() -> None:
    """``>=`` holds at the value, also for a mean that is a hair below it by rounding; ``>`` does not."""
    at_least = phase(criteria=[{"metric": "overall", "op": ">=", "value": 0.6}])
    above = phase(criteria=[{"metric": "overall", "op": ">", "value": 0.6}])
    hair_below = sum([0.1] * 10) * 0.6
    assert hair_below < 0.6
    assert judge(scores(hair_below), at_least)["passed"] is True
    assert judge(scores(0.6), above)["passed"] is False
    assert judge(scores(0.61), above)["passed"] is True


def test_every_miss_is_named_with_its_figure() -> None:
    """The summary says how many criteria were missed, which, and by what."""
    given = phase(
        criteria=[
            {"metric": "overall", "op": ">=", "value": 0.8},
            {"metric": "categories.lsp", "op": ">=", "value": 0.9},
            {"metric": "categories.git", "op": ">=", "value": 1.0},
        ]
    )
    verdict = judge(scores(0.9, lsp=0.5), given)
    assert verdict["passed"] is False
    assert "2 of 3 criteria missed" in verdict["summary"]
    assert "lsp 0.500 (needs >= 0.9)" in verdict["summary"]
    assert "git not measured" in verdict["summary"]


@pytest.mark.parametrize(
    ("overall", "outcome"), [(0.8, "viable"), (0.79, "undecided"), (0.5, "undecided"), (0.49, "needed")]
)
def test_outcomes_go_by_range(overall: float, outcome: str) -> None:
    """The first range that holds the figure gives the outcome; a figure of a sweep gives none."""
    given = phase(
        outcomes=[
            {"metric": "seeds_reaching_criteria", "at_least": 0, "below": None, "verdict": "of the sweep"},
            {"metric": "overall", "at_least": 0.8, "below": None, "verdict": "viable"},
            {"metric": "overall", "at_least": None, "below": 0.5, "verdict": "needed"},
            {"metric": "overall", "at_least": 0.5, "below": 0.8, "verdict": "undecided"},
        ]
    )
    assert judge(scores(overall), given)["outcome"] == outcome


def test_no_phase_no_verdict() -> None:
    """A run without criteria neither passes nor fails."""
    assert judge(scores(1.0), None)["passed"] is None


@pytest.mark.parametrize(
    ("mean", "words"),
    [
        (0.5, "leaves it out"),
        (0.7, "holds it, so the two may be the same: 37 prompts would tell"),
        (None, None),
    ],
)
def test_a_published_score_stands_beside_what_the_prompts_can_tell(
    mean: float | None, words: str | None
) -> None:
    """The baseline is inside the interval or outside; inside, the prompts that would tell are given."""
    phase = {"score": "keyword", "baseline": {"overall": 0.824, "source": "33b"}}
    scores = {"keyword": {"overall": {"mean": mean, "n": 54}}}
    found = baseline_sentence({"scores": scores, "sampling": {"repeats": 2}}, phase)
    assert found is None if words is None else str(found).endswith(words)
    assert baseline_sentence({"scores": scores, "sampling": {"repeats": 2}}, None) is None


@pytest.mark.parametrize(("answers", "expected"), [(135, 27), (134, 27), (2, 1)])
def test_prompts_of_repeated_answers(answers: int, expected: int) -> None:
    """An answer that is missing takes no prompt away."""
    assert prompts({"n": answers}, {"sampling": {"repeats": 5}}) == expected
