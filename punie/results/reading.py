"""Reads samples.jsonl: records as this version writes them, or all that is wrong with its lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from punie.evals.scores import ALWAYS
from punie.util import jsonl
from punie.util.errors import DataError
from punie.util.plain import is_text


def read_records(path: Path) -> list[dict[str, Any]]:
    """The raw records of a run, as ``evals.record`` makes them.

    Args:
        path: A samples.jsonl.

    Raises:
        DataError: The file is missing, cannot be read or is empty.
        Problems: Lines are wrong: each with its place, and all that is wrong with it.
    """
    lines = jsonl.load(
        path,
        _check,
        kind="The record of the answers",
        expected="samples.jsonl, as a run writes it, one answer a line",
        next_step="take the path that a run prints in the end",
        key=_name,
    )
    return [line.value for line in lines]


def _name(record: Mapping[str, Any]) -> str | None:
    key = record.get("id"), record.get("repeat")
    return f"{key[0]}, repeat {key[1]}" if isinstance(key[0], str) and isinstance(key[1], int) else None


def _check(record: Mapping[str, Any], where: str) -> Iterator[DataError]:
    if wrong := list(_wrong(record)):
        yield DataError("The line is not a record of an answer.", where=where, found="; ".join(wrong))


_LARGEST = sys.float_info.max


def _wrong(record: Mapping[str, Any]) -> Iterator[str]:
    """All that keeps a JSON object from being a record."""
    fields = _ASKED if record.get("missing") is not None else _ASKED | _ANSWERED
    for name, (holds, expected) in fields.items():
        if name not in record:
            yield f"no '{name}'"
        elif not holds(record[name]):
            yield f"'{name}' is {jsonl.excerpt(record[name], 30)} instead of {expected}"
    if not is_text(record):
        yield "half of a surrogate pair, which no text holds"


def _text(value: object) -> bool:
    return isinstance(value, str)


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


def _number(value: object) -> bool:
    # A whole number may be too large for a float; compared, it is not converted. NaN is in no range.
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST  # ty: ignore[unsupported-operator]


def _share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # ty: ignore[unsupported-operator]


def _calls(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and isinstance(each.get("tool"), str)
        and isinstance(each.get("arguments"), dict)
        for each in value
    )


def _scores(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() >= {*ALWAYS}
        and all(
            isinstance(score, dict) and _share(score.get("value")) and _text(score.get("reason"))
            for score in value.values()
        )
    )


def _maybe(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _each(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


_CALLS = 'a list such as [{"tool": "git_status", "arguments": {}}]'
_ASKED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_text, "text"),
    "repeat": (_count, "a whole number"),
    "category": (_text, "text"),
    "prompt": (_text, "text"),
    "prompt_sha256": (_text, "text"),
    "prompt_tokens": (_count, "a whole number"),
    "expect": (_calls, _CALLS),
    "match": (lambda value: value in ("any", "all"), "'any' or 'all'"),
    "missing": (_maybe(_text), "null, or why there is no answer"),
}
_ANSWERED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "output": (_text, "text"),
    "tokens": (_maybe(_each(_count)), "a list of token ids"),
    "logprobs": (_maybe(_each(_number)), "null, or a list of numbers"),
    "finish_reason": (_text, "text"),
    "seconds": (_maybe(_number), "a number"),
    "wrapper": (lambda value: isinstance(value, bool), "true or false"),
    "calls": (_calls, _CALLS),
    "execution": (_maybe(_text), "null, or how the code ended"),
    "scores": (_scores, "both scores, each with a value from 0 to 1 and a reason"),
    "taxonomy": (_text, "text"),
}
