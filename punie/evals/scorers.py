"""The published keyword score and the strict score of a response.

Both are pure functions of a sample, its completion and what the sandbox made of the completion's code.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from punie.evals import bfcl
from punie.evals.scores import heading
from punie.evals.suite import Expectation, Sample, acceptable, is_optional
from punie.formats import Call, Completion
from punie.formats.tools import TOOLS, Tool, wrong_arguments

if TYPE_CHECKING:  # at run time this would load the interpreter, which no score needs
    from punie.evals.sandbox import Execution

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
    "wrong count",
    "wrong order",
    "runtime error",
    "limit hit",
    "unwanted call",
]
TAXONOMY: tuple[Failure, ...] = get_args(Failure)
"""What can become of a response.

no call: no tool is called. malformed wrapper, truncated: a tool-call block cannot be read, the second because
the token limit cut it off. Where calls are made by code: direct call, a tool is called by its name instead of
by the code; syntax error, runtime error, limit hit: how the code ended. wrong count, wrong order: more or
fewer calls than expected, or another order, where ``match`` asks for it. unwanted call: a tool is
called where none should be.
"""

MAX_OTHER_TOOLS = 2
"""Most tools that a response may call besides the expected ones, so that calling every tool with the same
file does not count as correct."""

_DIRECT = re.compile(rf"\b(?:{'|'.join(TOOLS)})\s*\(")
_PATHS = ("path", "file", "cwd")


@dataclass(frozen=True)
class Score:
    """One score of one response."""

    value: float
    """From 0.0 to 1.0."""
    reason: str
    """Why, in a few words."""


def keyword(sample: Sample, completion: Completion, _: Execution | None = None) -> Score:
    """The published rule, which looks for names in the raw text and never checks whether anything was called.

    The mark of a tool-call block and the name of any expected tool: 1.0; a name without the mark: 0.5; the
    mark without a name: 0.1; neither: 0.0. If several tools are expected together: the fraction of names
    found, plus 0.1 for the mark, at most 1.0. Where no call is expected: 1.0 without the mark, else 0.0.
    """
    names = {each.tool for each in sample.expect}
    found = sorted(name for name in names if name in completion.text)
    marked = completion.has_block
    if not sample.expect:
        return Score(float(not marked), f"{'a' if marked else 'no'} tool-call block, none expected")
    if sample.match != "any" and len(names) > 1:
        value = min(1.0, len(found) / len(names) + 0.1 * marked)
    elif found:
        value = 1.0 if marked else 0.5
    else:
        value = 0.1 if marked else 0.0
    named = ", ".join(found) or "no expected tool"
    return Score(value, f"{'a' if marked else 'no'} tool-call block, names {named}")


def strict(sample: Sample, completion: Completion, execution: Execution | None) -> Score:
    """1.0 if the response can be read, its code ran and the expected calls were really made; else 0.0.

    Arguments are compared by type and value (1 is neither True nor "1"), paths after normalization
    ("./src/" is "src"); only the arguments that the suite lists are compared. An item may ask for BFCL's
    rules instead (``rules``).

    Args:
        sample: The suite's item.
        completion: The parsed response.
        execution: What the sandbox made of ``completion.code``; None if that is None.

    Raises:
        ValueError: There is code, but no execution of it.
    """
    failure, reason = _judge(sample, completion, execution)
    words = heading(failure)
    return Score(float(failure == "correct"), f"{words}: {reason}" if reason else words)


def taxonomy(sample: Sample, completion: Completion, execution: Execution | None) -> Failure:
    """What became of a response. Arguments and judgement are those of :func:`strict`."""
    return _judge(sample, completion, execution)[0]


def calls_made(completion: Completion, execution: Execution | None) -> Sequence[Call]:
    """The calls of a response: those that its code made, or those that it writes where there is no code."""
    if completion.code_tool is not None:
        return execution.calls if execution else ()
    return completion.calls


def _judge(sample: Sample, completion: Completion, execution: Execution | None) -> tuple[Failure, str]:
    if sample.rules == "bfcl":
        return bfcl.judge(sample, completion)
    code_tool, known = completion.code_tool, sample.known
    for block in completion.blocks:
        if code_tool is not None and block.name in TOOLS:
            return "direct call", f"{block.name} called without {code_tool}"
        if block.problem:
            return ("truncated", "") if block.problem == "truncated" else ("malformed wrapper", "")
        if code_tool is not None and block.name != code_tool:
            return "unknown tool", f"the only tool is {code_tool}"
        if code_tool is None and sample.expect and block.name not in known:
            return "unknown tool", f"there is no tool {block.name}"
    if not completion.blocks:
        if completion.unfinished_thought:
            return "truncated", "the thought never ends"
        direct = _DIRECT.search(completion.before) if code_tool is not None else None
        if direct:
            return "direct call", direct[0] + "…)"
        return ("no call", "") if sample.expect else ("correct", "")
    if code_tool is not None:
        if execution is None:
            raise ValueError("the completion has code, but its execution is missing")
        if execution.outcome != "ok" and (sample.expect or not execution.calls):
            return execution.outcome, execution.error
        return _compare(sample, execution.calls)
    for call in completion.calls if sample.expect else ():
        if wrong := wrong_arguments(known[call.tool], call.arguments):
            return "wrong arguments", wrong
    return _compare(sample, [_with_defaults(known, call) for call in completion.calls])


def _with_defaults(known: Mapping[str, Tool], call: Call) -> Call:
    """A call with the arguments that it leaves out, where the schema has a default."""
    tool = known.get(call.tool)
    parts = tool.properties if tool else {}
    defaults = {name: part["default"] for name, part in parts.items() if "default" in part}
    return Call(call.tool, {**defaults, **call.arguments})


def _compare(sample: Sample, calls: Sequence[Call]) -> tuple[Failure, str]:
    if not sample.expect:
        return ("unwanted call", _names(call.tool for call in calls)) if calls else ("correct", "")
    if not calls:
        return "no call", "the code calls no tool"
    wanted = {each.tool for each in sample.expect}
    called = {call.tool for call in calls}
    every, exactly = sample.match != "any", sample.match == "exactly"
    made = [[_matches(each, call, sample.known) for call in calls] for each in sample.expect]
    own = exactly and len(calls) == len(made)
    found = [call >= 0 for call in _assigned(made)] if own else list(map(any, made))
    missing = [each for each, there in zip(sample.expect, found, strict=True) if not there]
    if missing and (every or len(missing) == len(sample.expect)):
        # If any of several calls is enough, one whose tool was called says most about the failure.
        absent = [each.tool for each in missing if each.tool not in called]
        if absent and (every or len(absent) == len(missing)):
            return "wrong tool", f"{_names(called)} instead of {_names(absent)}"
        if not exactly or len(calls) == len(made):
            return "wrong arguments", _names(each.tool for each in missing if each.tool in called)
    if exactly and len(calls) != len(made):
        return "wrong count", f"{len(calls)} calls instead of {len(made)}"
    if sample.match == "in_order":
        rest = iter(range(len(calls)))
        if not all(any(row[call] for call in rest) for row in made):
            return "wrong order", ", ".join(call.tool for call in calls)
    if len(called - wanted) > MAX_OTHER_TOOLS:
        return "wrong tool", f"{len(called - wanted)} other tools were called as well"
    return "correct", ""


def returned(sample: Sample, calls: Sequence[Call]) -> list[str | None]:
    """For each call of a response the recorded result; None for a call that is none of the expected ones.

    Calls that are made twice get the same result twice.
    """
    if not sample.expect or not calls:
        return [None] * len(calls)
    made = [
        [_matches(each, _with_defaults(sample.known, call), sample.known) for each in sample.expect]
        for call in calls
    ]
    own = (
        at if at >= 0 else row.index(True) for at, row in zip(_assigned(made), made, strict=True) if any(row)
    )
    return [sample.results[next(own)] if any(row) else None for row in made]


def _assigned(made: Sequence[Sequence[bool]]) -> list[int]:
    """For each row a column of its own in which it is true, or -1, if as many as possible have one.

    ``made``: (expected, calls), whether the call is the expected one, or the other way round.
    """
    from scipy.sparse import csr_array  # takes a while to import, and few suites need it
    from scipy.sparse.csgraph import maximum_bipartite_matching

    return maximum_bipartite_matching(csr_array(made), perm_type="column").tolist()


def _names(tools: Iterable[str]) -> str:
    return ", ".join(sorted(set(tools)))


def _matches(expected: Expectation, call: Call, known: Mapping[str, Tool]) -> bool:
    if expected.tool != call.tool:
        return False
    tool = known.get(call.tool)
    parameters = {each.name: each for each in tool.parameters} if tool else {}

    def fits(name: str, values: object) -> bool:
        parameter, optional = parameters.get(name), is_optional(values)
        if name not in call.arguments:
            return optional
        # An argument that was left out has its default by now.
        accepted = [*acceptable(values), *([parameter.default] if optional and parameter else [])]
        is_number = parameter is not None and "float" in parameter.type
        given = call.arguments[name]
        return any(_same(each, given, is_path=name in _PATHS, is_number=is_number) for each in accepted)

    return all(fits(name, values) for name, values in expected.arguments.items())


def _same(expected: object, actual: object, *, is_path: bool = False, is_number: bool = False) -> bool:
    if is_number and type(expected) in (int, float) and type(actual) in (int, float):
        return expected == actual
    if type(expected) is not type(actual):
        return False
    if is_path and isinstance(expected, str) and isinstance(actual, str):
        return posixpath.normpath(expected) == posixpath.normpath(actual)
    if isinstance(expected, list) and isinstance(actual, list):
        pairs = zip(expected, actual, strict=False)
        return len(expected) == len(actual) and all(_same(*pair, is_number=is_number) for pair in pairs)
    return expected == actual
