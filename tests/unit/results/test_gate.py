"""The gate of a run in CI."""

from __future__ import annotations

from typing import Any

import pytest

from punie.results.verdict import gate


def scores(mean: float | None, stderr: float | None = 0.05) -> dict[str, Any]:
    overall = {"mean": mean, "n": 27, "stderr": stderr, "interval": [0.64, 0.92]}
    return {"strict": {"overall": overall}, "keyword": {"overall": overall}, "missing": {"count": 2}}


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
    assert (gate(scores(0.82), score=score, under=under, on=on) is None) == passes


def test_no_score_does_not_pass() -> None:
    """A run with missing answers, or with one prompt and no error, fails whatever is asked."""
    assert "2 answers are missing" in (gate(scores(None), score="strict", under=0.0, on="estimate") or "")
    assert gate(scores(0.9, None), score="keyword", under=0.0, on="lower_bound")
