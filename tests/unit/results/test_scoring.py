"""Samples: whole, scored again without a model, missing ones never a zero; and the scores of a suite."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from punie.config import resolve
from punie.config.compose import compose
from punie.evals.sandbox import Limits, Sandbox
from punie.evals.scorers import Score
from punie.evals.scores import ALWAYS, METRICS, SCORERS, Scorer
from punie.evals.suite import Expectation
from punie.evals.suite import Sample as Item
from punie.formats.code_mode import FORMAT, parse, wrap
from punie.results import scoring
from punie.results.comparison import compare, pairs
from punie.results.records import Estimate, Sample
from punie.results.run import samples_digest
from punie.results.statistics import wilson
from punie.stages import evaluate
from tests.unit.results.made import sample as made

ITEM = Item("git-01", "git", "what changed?", (Expectation("git_status", {"path": "src"}),))
SCORES = {name: {"value": 0.0, "reason": ""} for name in ("keyword", "strict")}
RIGHT = wrap('print(git_status(path="src"))')


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(duration=0.1)) as running:
        yield running


def answered(output: str, sandbox: Sandbox, repeat: int = 0) -> Sample:
    about = {"missing": None, "output": output, "finish_reason": "stop"}
    parts = scoring.scored(FORMAT, ITEM, output, truncated=False, sandbox=sandbox)
    return Sample.model_validate({**scoring.asked(FORMAT, ITEM, repeat, "0" * 64, 5), **about, **parts})


def missing(reason: str, repeat: int = 0) -> Sample:
    about = {"missing": reason, "output": None}
    return Sample.model_validate({**scoring.asked(FORMAT, ITEM, repeat, "0" * 64, 5), **about})


def test_a_sample_can_be_scored_again(sandbox: Sandbox) -> None:
    """From a line alone, today's scorers give the same sample; a changed output is scored otherwise."""
    sample = answered(RIGHT, sandbox)
    line = json.loads(json.dumps(sample.plain()))
    assert Sample.model_validate(line) == sample
    assert list(scoring.rescored(FORMAT, [sample], sandbox)) == [sample]
    (changed,) = scoring.rescored(FORMAT, [sample.model_copy(update={"output": "git_status it is"})], sandbox)
    assert (changed.scores["strict"].value, changed.taxonomy) == (0.0, "no call")


TURNS = [
    ITEM,
    Item("git-01", "git", "Thanks!", ()),
    Item("git-01", "git", "Its log?", (Expectation("git_log"),)),
]


def talk(*outputs: str, sandbox: Sandbox, turns: int = 3) -> Sample:
    """The record of a conversation with these responses; all but the last are right."""
    parts = [
        {
            **scoring.asked(FORMAT, item, 0, "0" * 64, 5),
            **{"missing": None, "output": output, "finish_reason": "stop", "seconds": 0.5},
            **scoring.scored(FORMAT, item, output, truncated=False, sandbox=sandbox),
        }
        for item, output in zip(TURNS, outputs, strict=False)
    ]
    return scoring.joined(parts, turns)


def test_a_conversation_is_scored_again_turn_by_turn(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same scorers give the same record. A turn that is wrong today decides, and what came after it is
    gone; one that is right today leaves the response missing, since the next turn was never asked."""
    log = wrap("print(git_log())")
    whole, half = talk(RIGHT, "Bye.", log, sandbox=sandbox), talk(RIGHT, log, sandbox=sandbox)
    assert [json.loads(json.dumps(each.plain())) for each in (whole, half)] == [whole.plain(), half.plain()]
    assert list(scoring.rescored(FORMAT, [whole, half], sandbox)) == [whole, half]
    assert (whole.scores["strict"].value, half.scores["strict"].value) == (1.0, 0.0)

    def otherwise(item: Item, *_: object) -> Score:
        return Score(float(bool(item.expect) == (item.prompt != ITEM.prompt)), "by its opposite")

    scorer = Scorer(f"{__name__}:judged", binary=True)
    monkeypatch.setattr(sys.modules[__name__], "judged", otherwise, raising=False)
    monkeypatch.setitem(SCORERS, "strict", scorer)
    (early,) = scoring.rescored(FORMAT, [whole], sandbox)
    assert (early.turn, early.earlier, early.output, early.scores["strict"].value) == (1, [], RIGHT, 0.0)
    monkeypatch.setitem(SCORERS, "strict", THIRD)
    (open_,) = scoring.rescored(FORMAT, [half], sandbox)
    assert open_.missing == "turn 2 is right by today's scorers, and turn 3 was never asked"
    assert (open_.scores, open_.output, len(open_.earlier)) == ({}, None, 1)
    gone = scoring.joined(
        [half.earlier[0].plain(), {**half.earlier[0].plain(), "missing": "x", "output": None}], 3
    )
    assert next(scoring.rescored(FORMAT, [gone], sandbox)).missing == "x"


def test_turns_are_counted(sandbox: Sandbox) -> None:
    """By turn: among the conversations that reached it, and among all that have it. A conversation counts for
    each rate that its turns are about, and one response without an answer leaves no means."""
    log = wrap("print(git_log())")
    rows = [talk(RIGHT, "Bye.", log, sandbox=sandbox), talk(RIGHT, log, sandbox=sandbox)]
    rows += [talk("No.", sandbox=sandbox), talk(RIGHT, "Bye.", sandbox=sandbox, turns=2)]
    rows = [row.model_copy(update={"id": f"{at}"}) for at, row in enumerate(rows)]
    found = scoring.summary([*rows, answered(RIGHT, sandbox)])
    shown = [(each.of_reached, each.of_all) for each in found.turns]
    assert [(each.mean, each.n) for both in shown for each in both] == [
        (0.75, 4), (0.75, 4), (pytest.approx(2 / 3), 3), (0.5, 4), (1.0, 1), (pytest.approx(1 / 3), 3),
    ]  # fmt: skip
    assert found.turns[0].of_all.interval == wilson(0.75, 4)
    assert {name: (each.mean, each.n) for name, each in found.rates.items()} == {
        "unwanted": (pytest.approx(1 / 3), 3), "missed": (0.2, 5),
    }  # fmt: skip
    assert scoring.summary([answered(RIGHT, sandbox)]).turns == []
    assert scoring.summary([*rows, missing("HTTP 500")]).turns[0].of_reached == Estimate(mean=None, n=4)


def test_conversations_are_compared_as_wholes(sandbox: Sandbox) -> None:
    """Two runs whose conversations ended at different turns are of the same prompts; times leave no trace in
    the digest, not even those of earlier turns."""
    log = wrap("print(git_log())")
    one, two = talk(RIGHT, log, sandbox=sandbox), talk("No.", sandbox=sandbox)
    found = compare([one], [two])
    assert {name: dict(each.differences) for name, each in found.paired.items()} == {
        "keyword": {"git-01": pytest.approx(-1 / 3)}, "strict": {"git-01": 0.0}, "missed": {"git-01": 1.0},
    }  # fmt: skip
    assert found.changed[0].outputs[0] == (f"> what changed?\n{RIGHT}\n> Thanks!\n{log}",)
    slow = [each.model_copy(update={"seconds": 9.0}) for each in one.earlier]
    assert samples_digest([one]) == samples_digest([one.model_copy(update={"earlier": slow})])


@pytest.mark.parametrize(
    "change",
    [{"turn": 3}, {"turns": 1}, {"turn": 0}, {"turns": 101}, {"earlier": []}, {"turns": True}],
)
def test_a_record_whose_turns_do_not_fit_is_refused(change: dict[str, Any], sandbox: Sandbox) -> None:
    """The number of the turn is that of the records before it, and no more than the item has."""
    half = talk(RIGHT, "git_log()", sandbox=sandbox).plain()
    Sample.model_validate(half)
    with pytest.raises(ValueError, match="turn"):
        Sample.model_validate({**half, **change})
    with pytest.raises(ValueError, match="a turn before the last without a response"):
        Sample.model_validate({**half, "earlier": [half]})


def test_a_missing_answer_has_no_score(sandbox: Sandbox) -> None:
    """It is counted with its reason, stays missing when scored again, and leaves no overall score."""
    samples = [answered(RIGHT, sandbox), missing("HTTP 500", 1), missing("HTTP 500", 2)]
    assert list(scoring.rescored(FORMAT, samples, sandbox))[1] == samples[1]
    found = scoring.summary(samples)
    assert (found.missing.count, found.missing.reasons) == (2, {"HTTP 500": 2})
    assert found.scores["strict"].overall == Estimate(mean=None, n=1)
    assert found.find("strict", "categories.git") == 1.0
    allowed = scoring.summary(samples, allow_missing=True).scores["strict"].overall
    assert (allowed.mean, allowed.n) == (1.0, 1)


def test_means_sizes_intervals_and_failures() -> None:
    """Every mean has its size; scores of 0 and 1 an interval; each failure is counted with an example."""
    rows = [
        made("a"),
        made("b", 0.0, scores={**SCORES, "keyword": {"value": 0.5, "reason": ""}}, wrapper=False),
        made("c", category="cst"),
        made("d", 0.0, category="cst"),
    ]
    found = scoring.summary(rows)
    assert (found.find("keyword"), found.find("keyword", "categories.git")) == (0.875, 0.75)
    assert found.scores["strict"].categories["cst"].n == 2
    assert found.scores["strict"].overall.interval == wilson(0.5, 4)
    assert found.scores["keyword"].overall.interval is None
    assert found.wrapper_rate.mean == 0.75
    assert {name: (each.count, each.example) for name, each in found.taxonomy.items()} == {
        "correct": (2, "a"), "wrong tool": (2, "b"),
    }  # fmt: skip


EXPECTED = [{"tool": "git_status", "arguments": {}}]


@pytest.mark.parametrize(
    ("expect", "taxonomy", "wrapper", "found"),
    [
        ([], "correct", False, ("unwanted", 0.0)),
        ([], "correct", True, ("unwanted", 0.0)),  # code that calls no tool
        ([], "unwanted call", True, ("unwanted", 1.0)),
        ([], "direct call", False, ("unwanted", 1.0)),
        ([], "malformed wrapper", True, ("unwanted", 1.0)),
        ([], "truncated", True, ("unwanted", 1.0)),
        ([], "truncated", False, ("unwanted", 0.0)),  # within a thought
        (EXPECTED, "no call", False, ("missed", 1.0)),
        (EXPECTED, "wrong tool", True, ("missed", 0.0)),
        (EXPECTED, "malformed wrapper", True, ("missed", 0.0)),
        (EXPECTED, "correct", True, ("missed", 0.0)),
    ],
)
def test_a_wrong_decision_to_call(
    expect: list[Any], taxonomy: str, wrapper: bool, found: tuple[str, float]
) -> None:
    """A call, readable or not, where none is expected; no call where one is. Another call is neither."""
    assert made("a", expect=expect, taxonomy=taxonomy, wrapper=wrapper).wrong_decision == found


def test_rates_of_wrong_decisions() -> None:
    """Each is over the items that it is about, with Wilson's interval; a suite may lack either kind."""
    none = [made(f"n{i}", taxonomy="unwanted call" if i < 3 else "correct") for i in range(12)]
    calls = [made("c", expect=EXPECTED, taxonomy="no call", repeat=i) for i in range(2)]
    found = scoring.summary([*none, *calls]).rates
    assert {name: (each.mean, each.n, each.interval) for name, each in found.items()} == {
        "unwanted": (0.25, 12, wilson(0.25, 12)), "missed": (1.0, 2, wilson(1.0, 1)),
    }  # fmt: skip
    assert [*scoring.summary(none).rates] == ["unwanted"]
    assert [*scoring.summary(calls).rates] == ["missed"]
    gone = made("m", output=None, missing="HTTP 500")
    assert scoring.summary([*none, gone]).rates["unwanted"] == Estimate(mean=None, n=12)


def test_rates_are_compared_over_the_prompts_that_they_are_about() -> None:
    """Two runs: the test of a rate has its prompts only, and no score of a prompt changes by it."""
    a = [made("n"), made("c", expect=EXPECTED, taxonomy="no call", strict=0.0)]
    b = [made("n", taxonomy="unwanted call"), made("c", expect=EXPECTED, taxonomy="wrong tool", strict=0.0)]
    found = compare(a, b)
    assert {name: dict(found.paired[name].differences) for name in ("unwanted", "missed")} == {
        "unwanted": {"n": 1.0}, "missed": {"c": -1.0},
    }  # fmt: skip
    assert [each.mean for each in found.rates["unwanted"]] == [0.0, 1.0]
    assert found.changed == ()
    other = [b[0], made("c")]  # the same prompt, now without an expected call
    assert "missed" not in compare(a, other).paired
    assert [pair.score for pair in pairs("base", "adapter", a, b)] == [*ALWAYS, "unwanted", "missed"]


def test_repeats_do_not_narrow_the_interval() -> None:
    """The interval counts prompts: eight repeats of two prompts are two prompts."""
    rows = [made(key, strict) for key, strict in (("a", 1.0), ("b", 0.0)) for _ in range(8)]
    overall = scoring.summary(rows).scores["strict"].overall
    assert (overall.n, overall.interval) == (16, wilson(0.5, 2))


def test_nothing_to_summarize() -> None:
    """No responses give no score at all, rather than 0 %."""
    with pytest.raises(ValueError, match="no responses"):
        scoring.summary([])


@pytest.mark.parametrize("name", FORMAT.spellings)
def test_openings(name: str) -> None:
    """An answer's opening is the spelling that it begins with, and nothing that it holds further on."""
    assert FORMAT.opening(FORMAT.spellings[name] + "x") == name
    assert FORMAT.opening("x" + FORMAT.spellings[name]) is None


def always(*_: object) -> Score:
    """A scorer that is content with everything."""
    return Score(1.0, "an answer")


THIRD = Scorer(f"{__name__}:always", binary=True)


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_is_where_the_table_says(name: str) -> None:
    """Each takes a sample, a completion and no execution, and gives a score; a summary can be of it."""
    assert isinstance(resolve_name(SCORERS[name].function)(ITEM, parse("Sorry."), None), Score)
    assert name in METRICS


def test_an_older_record_is_read_without_the_new_score(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """It is summarised and compared by what it has, and scored again it has the new score too."""
    old = answered(RIGHT, sandbox)
    monkeypatch.setitem(SCORERS, "always", THIRD)
    (new,) = scoring.rescored(FORMAT, [old], sandbox)
    assert {*scoring.summary([old]).scores} == {*ALWAYS}
    assert scoring.summary([new]).find("always") == 1.0
    assert {*compare([old], [new]).paired} == {*ALWAYS, "missed"}
    assert {*compare([new], [new]).paired} == {*ALWAYS, "always", "missed"}


def test_a_new_score_is_in_the_key_and_the_two_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an evaluation is made from names the scores beside the two, so that old keys stay as they are."""
    settings = evaluate.STAGE.settings(resolve(compose([])))
    before = evaluate.contents(settings)
    assert "scores" not in before
    monkeypatch.setitem(SCORERS, "always", THIRD)
    assert evaluate.contents(settings) == {**before, "scores": ["always"]}


_WATCHED = {"exec", "compile", "open", "os.system", "os.posix_spawn", "subprocess.Popen", "socket.connect"}
_SEEN: Counter[str] = Counter()
_WATCHING: list[bool] = []
_HOSTILE = [
    "import os\nos.system('id')",
    "open('x', 'w')",
    "exec('1')",
    "eval('1')",
    "while True: pass",
    "x = [0] * 10**12",
    "def f(): return f()\nf()",
    "__import__('subprocess').run(['id'])",
    "git_status('src')",
]


def _watch(event: str, _: object) -> None:
    if _WATCHING and event in _WATCHED:
        _SEEN[event] += 1


sys.addaudithook(_watch)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    code=st.sampled_from(_HOSTILE),
    as_json=st.booleans(),
    edits=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20), st.text(max_size=8)), max_size=3),
    truncated=st.booleans(),
)
def test_no_output_is_executed_here(
    sandbox: Sandbox, code: str, as_json: bool, edits: list[tuple[int, int, str]], truncated: bool
) -> None:
    """A mutated output ends in a record, and this process executes, opens and connects to nothing."""
    call = json.dumps({"name": "execute_code", "arguments": {"code": code}})
    text = f"<tool_call>\n{call}\n</tool_call>" if as_json else wrap(code)
    for at, length, put in edits:
        text = text[:at] + put + text[at + length :]
    scoring.scored(FORMAT, ITEM, RIGHT, truncated=False, sandbox=sandbox)  # imports what it needs
    _SEEN.clear()
    _WATCHING.append(True)
    try:
        found = scoring.scored(FORMAT, ITEM, text, truncated=truncated, sandbox=sandbox)
    finally:
        _WATCHING.clear()
    assert not _SEEN
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
