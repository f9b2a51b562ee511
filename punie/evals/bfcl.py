"""The rules by which the Berkeley Function Calling Leaderboard (BFCL v4) judges calls, for Python.

They are those of ``eval_checker/ast_eval/ast_checker.py`` in bfcl-eval 2026.3.23, written anew; a test
compares the two case by case. Expected arguments are lists of acceptable values; ``""`` among them means that
the argument may be left out. The keys of an acceptable object have such lists, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from punie.formats import Call
from punie.formats.tools import Tool
from punie.util.jsonl import excerpt

if TYPE_CHECKING:
    from punie.evals.scorers import Failure
    from punie.evals.suite import Expectation, Sample
    from punie.formats import Completion

_TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
_IGNORED = re.compile(r"[ ,./\-_*^]")
"""Characters that do not count when two texts are compared; nor does case, nor the kind of quotation mark."""


def judge(sample: Sample, completion: Completion) -> tuple[Failure, str]:
    """What became of a response, and why.

    ``expect: []``: no call that can be read may be made. ``match: any``: any call is right. Else the calls
    are exactly the expected ones, in any order.
    """
    calls = completion.calls
    if not sample.expect and calls:
        return "unwanted call", ", ".join(sorted({call.tool for call in calls}))
    if not sample.expect or (sample.match == "any" and calls):
        return "correct", ""
    problems = {block.problem for block in completion.blocks}
    if "truncated" in problems or completion.unfinished_thought:
        return "truncated", ""
    if "malformed" in problems:
        return "malformed wrapper", ""
    if not calls:
        return "no call", ""
    return compare(sample.expect, calls, sample.known)


def compare(
    expected: Sequence[Expectation], calls: Sequence[Call], known: Mapping[str, Tool]
) -> tuple[Failure, str]:
    """Whether calls are the expected ones.

    Each expected call takes the first of the calls left that fits it, as in BFCL.
    """
    if unknown := [call.tool for call in calls if call.tool not in known]:
        return "unknown tool", f"there is no tool {unknown[0]}"
    if len(calls) != len(expected):
        return "wrong tool", f"{len(calls)} calls instead of {len(expected)}"
    left = [*calls]
    for each in expected:
        wrong = [wrong_call(each, call, known[call.tool]) for call in left]
        if None in wrong:
            del left[wrong.index(None)]
            continue
        reasons = [why for call, why in zip(left, wrong, strict=True) if call.tool == each.tool]
        return ("wrong arguments", str(reasons[0])) if reasons else ("wrong tool", f"no call of {each.tool}")
    return "correct", ""


def wrong_call(expected: Expectation, call: Call, tool: Tool) -> str | None:
    """Why a call is not the expected one; None if it is."""
    if call.tool != expected.tool:
        return f"{call.tool} instead of {expected.tool}"
    if missing := [name for name in tool.schema.get("required", ()) if name not in call.arguments]:
        return f"{missing[0]} is missing"
    accepted = {
        name: values if isinstance(values, list) else [values] for name, values in expected.arguments.items()
    }
    for name, value in call.arguments.items():
        if name not in tool.properties or name not in accepted:
            return f"{name} is not expected"
        if not _fits(value, accepted[name], tool.properties[name]):
            return f"{name} is {excerpt(repr(value))}, not one of {excerpt(accepted[name])}"
    for name, values in accepted.items():
        if name not in call.arguments and "" not in values:
            return f"{name} is missing"
    return None


def _fits(value: Any, accepted: Sequence[Any], schema: Mapping[str, Any]) -> bool:
    """Whether an argument is an acceptable value, of its declared type or of that of the acceptable ones."""
    kind = _type(schema)
    inner = _type(schema.get("items", {})) if kind is list else None
    if kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            return False
    if not _typed(value, accepted, kind, inner):
        return False
    if type(value) is not kind or _listed(accepted) not in (None, kind):
        return value in accepted  # such as the name of a variable, or a text for a number
    if kind is dict:
        return any(_object(value, each) for each in accepted)
    if kind is list and inner is dict:
        return any(_objects(value, each) for each in accepted)
    if kind is str:
        return _plain(value) in [_plain(each) for each in accepted if isinstance(each, str)]
    if kind is list:
        return _all_plain(value) in [_all_plain(each) for each in accepted if isinstance(each, list | str)]
    return value in accepted


def _type(schema: Any) -> type | None:
    """The Python type that a schema declares; text if it declares none, as for BFCL's ``any``."""
    declared = schema.get("type", "string") if isinstance(schema, Mapping) else "string"
    return _TYPES.get(declared) if isinstance(declared, str) else None


def _listed(accepted: Sequence[Any]) -> type | None:
    """The type of the first acceptable value."""
    return next((type(each) for each in accepted if each != ""), None)


def _typed(value: Any, accepted: Sequence[Any], kind: type | None, inner: type | None = None) -> bool:
    if type(value) is not kind:
        return type(value) is _listed(accepted)
    if inner is None:
        return True
    return any(
        not isinstance(each, list) or all(_typed(element, each, inner) for element in value)
        for each in accepted
    )


def _plain(value: Any) -> Any:
    """A text without what does not count; any other value as it is."""
    return _IGNORED.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value


def _all_plain(values: Any) -> list[Any]:
    return [_plain(each) for each in values]


def _objects(values: Any, accepted: Any) -> bool:
    """Whether objects are those of one acceptable list, in its order."""
    return (
        isinstance(accepted, list | str)
        and len(values) == len(accepted)
        and all(_object(*pair) for pair in zip(values, accepted, strict=True))
    )


def _object(value: Any, accepted: Any) -> bool:
    """Whether an object has one of the acceptable values under each key, and lacks only keys that may be."""
    if not isinstance(value, dict) or not isinstance(accepted, dict):
        return False
    if not all(isinstance(values, list | str) for values in accepted.values()):
        return False
    return all(
        key in accepted and _plain(each) in _all_plain(accepted[key]) for key, each in value.items()
    ) and all(key in value or "" in values for key, values in accepted.items())
