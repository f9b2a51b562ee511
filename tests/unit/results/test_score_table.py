"""The table of scores, and records from before a score was in it."""

from __future__ import annotations

from pkgutil import resolve_name

import pytest

from punie.config import resolve
from punie.config.compose import compose
from punie.evals.sandbox import Sandbox
from punie.evals.scorers import Score
from punie.evals.scores import ALWAYS, METRICS, SCORERS, Scorer
from punie.evals.suite import Expectation
from punie.evals.suite import Sample as Item
from punie.formats.code_mode import parse, wrap
from punie.results.comparison import compare
from punie.results.records import Sample
from punie.results.scoring import asked, rescored, scored, summary
from punie.stages import evaluate

ITEM = Item("status", "git", "What has changed?", (Expectation("git_status"),))


def always(*_: object) -> Score:
    """A scorer that is content with everything."""
    return Score(1.0, "an answer")


THIRD = Scorer(f"{__name__}:always", binary=True)


def record(sandbox: Sandbox) -> Sample:
    answer = wrap("git_status()")
    about = {"missing": None, "output": answer, "finish_reason": "stop"}
    parts = scored(ITEM, answer, truncated=False, sandbox=sandbox)
    return Sample.model_validate({**asked(ITEM, 0, "", 1), **about, **parts})


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_is_where_the_table_says(name: str) -> None:
    """Each takes a sample, a completion and no execution, and gives a score; a summary can be of it."""
    assert isinstance(resolve_name(SCORERS[name].function)(ITEM, parse("Sorry."), None), Score)
    assert name in METRICS


def test_an_older_record_is_read_without_the_new_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is summarised and compared by what it has, and scored again it has the new score too."""
    with Sandbox() as sandbox:
        old = record(sandbox)
        monkeypatch.setitem(SCORERS, "always", THIRD)
        (new,) = rescored([old], sandbox)
    assert {*summary([old]).scores} == {*ALWAYS}
    assert summary([new]).find("always") == 1.0
    assert {*compare([old], [new]).paired} == {*ALWAYS}
    assert {*compare([new], [new]).paired} == {*ALWAYS, "always"}


def test_a_new_score_is_in_the_key_and_the_two_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an evaluation is made from names the scores beside the two, so that old keys stay as they are."""
    settings = evaluate.STAGE.settings(resolve(compose([])))
    before = evaluate.contents(settings)
    assert "scores" not in before
    monkeypatch.setitem(SCORERS, "always", THIRD)
    assert evaluate.contents(settings) == {**before, "scores": ["always"]}
