"""Raw records: whole, scored again without a model, and missing ones never a zero."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from punie.evals.sandbox import Limits, Sandbox
from punie.evals.suite import Expectation, Sample
from punie.formats.code_mode import FORMAT, wrap
from punie.results import answers as record

SAMPLE = Sample("git-01", "git", "what changed?", (Expectation("git_status", {"path": "src"}),))
RIGHT = wrap('print(git_status(path="src"))')


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Limits(duration=0.1)) as running:
        yield running


def answered(output: str, sandbox: Sandbox, repeat: int = 0) -> dict[str, Any]:
    given = {"missing": None, "output": output, "finish_reason": "stop"}
    return (
        record.asked(SAMPLE, repeat, "0" * 64, 5)
        | given
        | record.scored(SAMPLE, output, truncated=False, sandbox=sandbox)
    )


def missing(reason: str, repeat: int = 0) -> dict[str, Any]:
    return record.asked(SAMPLE, repeat, "0" * 64, 5) | {"missing": reason, "output": None}


def test_a_record_can_be_scored_again(sandbox: Sandbox) -> None:
    """From a record's line alone, today's scorers give the same record; a changed output scores otherwise."""
    line = json.loads(json.dumps(answered(RIGHT, sandbox)))
    assert list(record.rescored([line], sandbox)) == [line]
    (changed,) = record.rescored([line | {"output": "git_status it is"}], sandbox)
    assert (changed["scores"]["strict"]["value"], changed["taxonomy"]) == (0.0, "no call")


def test_a_missing_answer_has_no_score(sandbox: Sandbox) -> None:
    """It is counted with its reason, stays missing when scored again, and leaves no overall score."""
    rows = [answered(RIGHT, sandbox), missing("HTTP 500", 1), missing("HTTP 500", 2)]
    assert list(record.rescored(rows, sandbox))[1] == rows[1]
    found = record.summary(rows)
    assert found["missing"] == {"count": 2, "reasons": {"HTTP 500": 2}}
    assert found["strict"]["overall"] == {"mean": None, "n": 1, "stderr": None, "interval": None}
    assert found["strict"]["categories"]["git"]["mean"] == 1.0


def test_an_overall_score_for_the_asking(sandbox: Sandbox) -> None:
    """With allow_missing the score is that of the answers there are."""
    found = record.summary([answered(RIGHT, sandbox), missing("gone", 1)], allow_missing=True)
    assert (found["strict"]["overall"]["mean"], found["strict"]["overall"]["n"]) == (1.0, 1)


@pytest.mark.parametrize("name", FORMAT.spellings)
def test_openings(name: str) -> None:
    """An answer's opening is the spelling that it begins with, and nothing that it holds further on."""
    assert FORMAT.opening(FORMAT.spellings[name] + "x") == name
    assert FORMAT.opening("x" + FORMAT.spellings[name]) is None


def test_the_canonical_opening_is_the_wrappers(sandbox: Sandbox) -> None:
    """The wrapper that training teaches opens canonically, and is a wrapper that can be read."""
    found = answered(RIGHT, sandbox)
    assert found["opening"] == next(iter(FORMAT.spellings))
    assert found["scores"]["strict"]["value"] == 1.0


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
    record.scored(SAMPLE, RIGHT, truncated=False, sandbox=sandbox)  # imports what it needs
    _SEEN.clear()
    _WATCHING.append(True)
    try:
        found = record.scored(SAMPLE, text, truncated=truncated, sandbox=sandbox)
    finally:
        _WATCHING.clear()
    assert not _SEEN
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
