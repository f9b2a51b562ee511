"""What an answer is worth: the published keyword rule, and the strict one that asks what really happened.

Both are pure: a sample, its completion and what the sandbox made of it go in, a score comes out.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from punie.evals.stubs import Call
from punie.evals.suite import Expectation, Sample
from punie.formats.code_mode import Completion
from punie.formats.tools import EXECUTE_CODE, TOOLS

if TYPE_CHECKING:
    from punie.evals.sandbox import (
        Execution,  # at run time it would load the interpreter, which no score needs
    )

Failure = Literal[
    "correct",
    "no call",
    "direct call",
    "malformed wrapper",
    "truncated",
    "syntax error",
    "unknown tool",
    "wrong tool",
    "wrong arguments",
    "runtime error",
    "limit hit",
]
TAXONOMY: tuple[Failure, ...] = get_args(Failure)
"""What can become of an answer.

no call: no tool is called, in the wrapper or outside. direct call: a tool is called by its name, but not
through the wrapper and ``execute_code``. malformed wrapper, truncated: the wrapper cannot be read, the
second because the token limit cut it off. The others are about the code inside the wrapper.
"""

MAX_OTHER_TOOLS = 2
"""Most tools that code may call beside the expected ones. A look around is fine; calling every tool with
the same file, so that one of them is right, is not an answer."""

_DIRECT = re.compile(rf"\b(?:{'|'.join(TOOLS)})\s*\(")
_PATHS = ("path", "file", "cwd")


@dataclass(frozen=True)
class Score:
    """One score of one answer."""

    value: float
    """From 0.0 to 1.0."""
    reason: str
    """Why, in a few words."""


def keyword(sample: Sample, completion: Completion, _: Execution | None = None) -> Score:
    """The published rule, which reads names in the raw text and never looks whether anything was called.

    The literal ``<tool_call>`` and any expected tool's name: 1.0; a name without the literal: 0.5; the
    literal without a name: 0.1; neither: 0.0. For several tools that are all expected: the fraction of
    names found, 0.1 more for the literal, at most 1.0.
    """
    names = {each.tool for each in sample.expect}
    found = sorted(name for name in names if name in completion.text)
    wrapper = completion.has_wrapper
    if sample.match == "all" and len(names) > 1:
        value = min(1.0, len(found) / len(names) + 0.1 * wrapper)
    elif found:
        value = 1.0 if wrapper else 0.5
    else:
        value = 0.1 if wrapper else 0.0
    named = ", ".join(found) or "no expected tool"
    return Score(value, f"{'wrapper' if wrapper else 'no wrapper'}, names {named}")


def strict(sample: Sample, completion: Completion, execution: Execution | None) -> Score:
    """1.0 if the wrapper can be read, its code ran and the expected calls were really made; else 0.0.

    Arguments are compared by type and value (1 is neither True nor "1"), paths after normalisation
    ("./src/" is "src"); only the arguments that the suite lists are compared.

    Args:
        sample: The suite's item.
        completion: The parsed answer.
        execution: What the sandbox made of ``completion.code``; None where that is None.

    Raises:
        ValueError: There is code, but no execution of it.
    """
    failure, reason = _judge(sample, completion, execution)
    return Score(float(failure == "correct"), f"{failure}: {reason}" if reason else failure)


def taxonomy(sample: Sample, completion: Completion, execution: Execution | None) -> Failure:
    """What became of an answer, by the same judgement as :func:`strict`, whose arguments it takes."""
    return _judge(sample, completion, execution)[0]


def _judge(sample: Sample, completion: Completion, execution: Execution | None) -> tuple[Failure, str]:
    for block in completion.blocks:
        if block.name in TOOLS:
            return "direct call", f"{block.name} called without {EXECUTE_CODE}"
        if block.problem:
            return ("truncated", "") if block.problem == "truncated" else ("malformed wrapper", "")
        if block.name != EXECUTE_CODE:
            return "unknown tool", f"the only tool is {EXECUTE_CODE}"
    if not completion.blocks:
        if completion.unfinished_thought:
            return "truncated", "the thought never ends"
        direct = _DIRECT.search(completion.before)
        return ("direct call", direct[0] + "…)") if direct else ("no call", "")
    if execution is None:
        raise ValueError("the completion has code, but its execution is missing")
    if execution.outcome != "ok":
        return execution.outcome, execution.error
    return _compare(sample, execution.calls)


def _compare(sample: Sample, calls: tuple[Call, ...]) -> tuple[Failure, str]:
    if not calls:
        return "no call", "the code calls no tool"
    wanted = {each.tool for each in sample.expect}
    called = {call.tool for call in calls}
    missing = [each for each in sample.expect if not any(_matches(each, call) for call in calls)]
    if missing and (sample.match == "all" or len(missing) == len(sample.expect)):
        # Of several that would do, the one whose tool was called tells most about what went wrong.
        absent = [each.tool for each in missing if each.tool not in called]
        if absent and (sample.match == "all" or len(absent) == len(missing)):
            return "wrong tool", f"{_names(called)} instead of {_names(absent)}"
        return "wrong arguments", _names(each.tool for each in missing if each.tool in called)
    if len(called - wanted) > MAX_OTHER_TOOLS:
        return "wrong tool", f"{len(called - wanted)} other tools were called as well"
    return "correct", ""


def _names(tools: Iterable[str]) -> str:
    return ", ".join(sorted(set(tools)))


def _matches(expected: Expectation, call: Call) -> bool:
    return expected.tool == call.tool and all(
        name in call.arguments and _same(value, call.arguments[name], is_path=name in _PATHS)
        for name, value in expected.arguments.items()
    )


def _same(expected: object, actual: object, *, is_path: bool = False) -> bool:
    if type(expected) is not type(actual):
        return False
    if is_path and isinstance(expected, str) and isinstance(actual, str):
        return posixpath.normpath(expected) == posixpath.normpath(actual)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(_same, expected, actual))
    return expected == actual
