"""Suites: JSON lines with the prompts of an evaluation and the calls that each one asks for."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

from punie.formats.tools import CATEGORIES, TOOLS
from punie.util import jsonl
from punie.util.errors import DataError
from punie.util.plain import is_text


@dataclass(frozen=True)
class Expectation:
    """One call that a sample's prompt asks for."""

    tool: str
    """The tool's name."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The arguments that are compared, by parameter name; others may be anything."""


@dataclass(frozen=True)
class Sample:
    """One prompt of a suite."""

    id: str
    """Unique in its suite."""
    category: str
    """One of the known categories; scores are averaged by it."""
    prompt: str
    """The user's turn."""
    expect: tuple[Expectation, ...]
    """The expected calls; at least one."""
    match: Literal["any", "all"] = "any"
    """Whether one of the expected calls is enough, or all are needed."""
    max_tokens: int | None = None
    """Longest response, in tokens; None means ``eval.max_tokens``."""


def load_suite(path: Path) -> list[Sample]:
    """The samples of a suite, in the order of its file.

    Args:
        path: A JSONL file, one item per line, with the fields of :class:`Sample`.

    Raises:
        DataError: The file is missing, cannot be read or is empty.
        Problems: Items are wrong: the problems of every line, each with its place.
    """
    lines = jsonl.load(
        path,
        _check,
        kind="The suite",
        expected="a JSONL file, one item a line",
        next_step="Check eval.suite.",
        key=lambda item: item["id"] if isinstance(item.get("id"), str) else None,
    )
    return [_build(line.value) for line in lines]


def _build(item: Mapping[str, Any]) -> Sample:
    values: dict[str, Any] = {**item, "expect": tuple(Expectation(**each) for each in item["expect"])}
    return Sample(**values)


def _check(item: Mapping[str, Any], where: str) -> Iterator[DataError]:
    """Every problem of one item."""
    if not is_text(item):
        yield DataError("The item is not valid text.", where=where, found="half of a surrogate pair")
    yield from _unknown(item, [each.name for each in fields(Sample)], "field", where)
    for name in ("id", "category", "prompt"):
        value = item.get(name)
        if not isinstance(value, str) or not value.strip():
            yield _wrong(name, item, "some text", where)
        elif name == "category" and value not in CATEGORIES:
            yield from _unknown([value], CATEGORIES, "category", where)
    if item.get("match", "any") not in ("any", "all"):
        yield _wrong("match", item, "'any' or 'all'", where)
    limit = item.get("max_tokens", 1)
    if type(limit) is not int or limit < 1:
        yield _wrong("max_tokens", item, "a whole number of tokens, at least 1", where)
    expected = item.get("expect")
    if not isinstance(expected, list) or not expected:
        yield _wrong("expect", item, 'a list such as [{"tool": "git_status", "arguments": {}}]', where)
        return
    for each in expected:
        yield from _check_expectation(each, where)


def _check_expectation(each: object, where: str) -> Iterator[DataError]:
    if not isinstance(each, dict) or not isinstance(each.get("tool"), str):
        found = jsonl.excerpt(each)
        yield DataError("An expected call names no tool.", where=where, found=found, expected='{"tool": …}')
        return
    call = cast("dict[str, Any]", each)
    yield from _unknown(call, ("tool", "arguments"), "field of an expected call", where)
    tool, arguments = TOOLS.get(call["tool"]), call.get("arguments", {})
    if not isinstance(arguments, dict):
        yield _wrong("arguments", call, "an object of argument names and values", where)
    elif tool is None:
        yield from _unknown([call["tool"]], TOOLS, "tool", where)
    else:
        types = {parameter.name: parameter.type for parameter in tool.parameters}
        yield from _unknown(arguments, types, f"argument of {tool.signature}", where)
        for name in arguments.keys() & types.keys():
            if not _has_type(arguments[name], types[name]):
                what = f"The argument '{name}' of {tool.name} has the wrong type."
                found = jsonl.excerpt(arguments[name])
                yield DataError(what, where=where, found=found, expected=types[name])


def _has_type(value: object, expected: str) -> bool:
    if expected == "list[str]":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return type(value).__name__ == expected


def _unknown(names: Collection[str], known: Collection[str], kind: str, where: str) -> Iterator[DataError]:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            expected = f"'{close[0]}', perhaps" if close else "one of " + (", ".join(known) or "none at all")
            yield DataError(f"Unknown {kind}: '{jsonl.excerpt(name)}'.", where=where, expected=expected)


def _wrong(name: str, item: Mapping[str, Any], expected: str, where: str) -> DataError:
    what = f"The field '{name}' is {'wrong' if name in item else 'missing'}."
    found = jsonl.excerpt(item[name]) if name in item else None
    return DataError(what, where=where, found=found, expected=expected)
