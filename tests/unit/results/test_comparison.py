"""The responses of two runs, prompt by prompt."""

from __future__ import annotations

import pytest

from punie.results.comparison import compare
from tests.unit.results.made import sample


def test_changed_prompts():
    """Only prompts whose score moved are listed, with scores, taxonomy and every answer of both runs."""
    a = [sample("x", 1.0), sample("y", 0.0, "no"), sample("y", 0.0, "nor"), sample("z", 0.0)]
    b = [sample("z", 0.0, "other words"), sample("y", 1.0, "yes"), sample("y", 0.0), sample("x", 1.0)]
    found = compare(a, b)
    assert [prompt.id for prompt in found.changed] == ["y"]
    changed = found.changed[0]
    assert changed.scores == {"keyword": (1.0, 1.0), "strict": (0.0, 0.5)}
    assert changed.taxonomy == ("wrong tool", "correct, wrong tool")
    assert changed.outputs == (("no", "nor"), ("yes", ""))
    assert found.means["strict"] == pytest.approx((1 / 3, 0.5))
    assert (found.paired["strict"].up, found.paired["strict"].unchanged) == (1, 2)


def test_other_suites_are_refused():
    """Prompts with other ids, or with another text under the same id, are not compared."""
    with pytest.raises(ValueError, match="2 prompts are in one run only: x, y"):
        compare([sample("x", 1.0)], [sample("y", 1.0)])
    with pytest.raises(ValueError, match="1 prompts have another text: x"):
        compare([sample("x", 1.0)], [sample("x", 1.0, prompt="do something else")])


def test_a_missing_answer_is_not_a_zero() -> None:
    """A prompt that lacks an answer in either run is left out of both, and named."""
    a = [sample("p1", 1.0), sample("p2", 0.0)]
    b = [sample("p1", 0.0), sample("p2", missing="the server is gone", output=None)]
    found = compare(a, b)
    assert found.left_out == ("p2",)
    assert found.paired["strict"].differences == {"p1": -1.0}
