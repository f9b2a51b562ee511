import json

import pytest

from punie.results.scores import Scored, summarize
from punie.results.statistics import wilson


def row(key, strict, *, category="git", keyword=1.0, taxonomy=None):
    return Scored(
        key,
        category,
        {"keyword": keyword, "strict": strict},
        taxonomy or ("correct" if strict else "wrong tool"),
        keyword > 0.5,
    )


def test_summary():
    """The summary has every mean, its size, intervals where scores are binary, and the failures."""
    rows = [
        row("a", 1.0),
        row("b", 0.0, keyword=0.5),
        row("c", 1.0, category="cst"),
        row("d", 0.0, category="cst"),
    ]
    summary = summarize(rows)
    assert summary["keyword"]["overall"]["mean"] == 0.875
    assert summary["keyword"]["categories"]["git"]["mean"] == 0.75
    assert summary["strict"]["categories"]["cst"]["n"] == 2
    assert summary["strict"]["overall"]["interval"] == list(wilson(0.5, 4))
    assert "interval" not in summary["keyword"]["overall"]
    assert summary["wrapper_rate"]["mean"] == 0.75
    assert summary["taxonomy"] == {
        "correct": {"count": 2, "example": "a"},
        "wrong tool": {"count": 2, "example": "b"},
    }
    assert json.loads(json.dumps(summary)) == summary


def test_repeats_do_not_narrow_the_interval():
    """The interval counts prompts: eight repeats of two prompts are two prompts."""
    rows = [row(key, strict) for key, strict in (("a", 1.0), ("b", 0.0)) for _ in range(8)]
    overall = summarize(rows)["strict"]["overall"]
    assert (overall["n"], overall["interval"]) == (16, list(wilson(0.5, 2)))


def test_nothing_to_summarize():
    """No answers give no score at all, rather than 0 %."""
    with pytest.raises(ValueError, match="no answers"):
        summarize([])
