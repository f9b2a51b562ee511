"""JSON Lines files, read line by line; every problem has its file and line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from punie.util.errors import DataError, Problems, PunieError
from punie.util.plain import parse_json

MAX_LINE = 16 * 2**20
"""Longest line read, in bytes; a longer one is reported and skipped, and not held in memory."""
SHOWN = 20
"""Most problems that an error lists; the rest are counted."""
MOST = 1_000
"""Most problems collected from one line, which may have a million unknown fields."""


class Line(NamedTuple):
    """One line of a file."""

    number: int
    """Counted from 1."""
    value: dict[str, Any]
    """The JSON object; empty when there is a problem."""
    problem: DataError | None
    """Why the line cannot be used, or None."""
    size: int
    """Bytes of the line, its end included."""


def read(path: Path, *, max_line: int = MAX_LINE) -> Iterator[Line]:
    """The lines of a file, in order; they end with LF or CRLF.

    Raises:
        OSError: The file is missing or cannot be read.
    """
    with path.open("rb") as file:
        for number in count(1):
            if not (content := file.readline(max_line + 1)):
                return
            where, value, problem, size = f"{path}:{number}", {}, None, len(content)
            if size > max_line:
                while not content.endswith(b"\n") and (content := file.readline(max_line)):
                    size += len(content)
                found, expected = f"{size:,} bytes", f"at most {max_line:,} bytes"
                problem = DataError("The line is too long.", where=where, found=found, expected=expected)
            else:
                try:
                    value = parse(content, where)
                except DataError as error:
                    problem = error
                if problem and number == 1 and content.strip()[:2] in (b"[", b"[{"):
                    problem = DataError(
                        "The file is a JSON array.",
                        where=path,
                        found=excerpt(content.decode(errors="replace")),
                        expected="JSON Lines: one object a line",
                        next_step=f"jq -c '.[]' {path.name} > lines.jsonl",
                    )
                    yield Line(number, {}, problem, path.stat().st_size)
                    return
            yield Line(number, value, problem, size)


def load(
    path: Path,
    check: Callable[[Mapping[str, Any], str], Iterator[PunieError]],
    *,
    kind: str,
    expected: str,
    next_step: str,
    key: Callable[[Mapping[str, Any]], object] | None = None,
) -> list[Line]:
    """The lines of a file in which every line must be valid.

    Args:
        path: The file.
        check: Yields the problems of one object; its second argument is file and line.
        kind: What the file is, such as "The suite".
        expected: Shown, as is ``next_step``, if the file cannot be opened or is empty.
        next_step: What to do then.
        key: A value that no two lines may share, unless it is None.

    Raises:
        DataError: The file is missing, cannot be read or is empty.
        Problems: Lines are wrong: the first 20 problems with their lines, and how many more there are.
    """
    lines: list[Line] = []
    problems: list[PunieError] = []
    total, bad = 0, 0
    seen: dict[object, int] = {}
    try:
        for line in read(path):
            where = f"{path}:{line.number}"
            found = [line.problem] if line.problem else list(islice(check(line.value, where), MOST))
            name = key(line.value) if key and not line.problem else None
            if name is not None and seen.setdefault(name, line.number) != line.number:
                also = f"{excerpt(name)}, also on line {seen[name]}"
                found.append(DataError("The line repeats another.", where=where, found=also))
            total, bad = total + len(found), bad + bool(found)
            problems += found[: SHOWN - len(problems)]
            if not problems:
                lines.append(line)
    except OSError as error:
        raise DataError(
            f"{kind} cannot be read.",
            where=path,
            found=error.strerror,
            expected=expected,
            next_step=next_step,
        ) from error
    if problems:
        if total > len(problems):
            problems.append(DataError(f"… and {total - len(problems):,} more problems in this file."))
        raise Problems(f"{kind} {path.name} cannot be used: {bad:,} of its lines are wrong.", problems)
    if not lines:
        raise DataError(f"{kind} is empty.", where=path, expected=expected, next_step=next_step)
    return lines


def parse(content: bytes, where: str) -> dict[str, Any]:
    """The object of one line.

    Raises:
        DataError: It is none.
    """
    text, expected = "", "one JSON object"
    try:
        text = content.decode("utf-8")
        value = parse_json(text)
        if isinstance(value, dict):
            return value
        what, found = "The line is not a JSON object.", excerpt(text)
    except UnicodeDecodeError as error:
        what, expected = "The line is not valid UTF-8.", "UTF-8 text"
        found = f"byte 0x{content[error.start]:02X} at column {error.start + 1}"
    except json.JSONDecodeError as error:
        what, found = "The line is not JSON.", f"{error.msg} at column {error.colno}: {excerpt(text)}"
    except ValueError as error:  # a number of over 4,300 digits, or nested too deeply
        what, found = "The line is not JSON that can be read.", str(error)[:100]
    if content.startswith(codecs.BOM_UTF8):
        what, expected = "The file begins with a byte order mark.", "UTF-8 without a byte order mark"
        found = "the bytes EF BB BF before the first object"
    elif not content.strip():
        what, found = "The line is empty.", None
    raise DataError(what, where=where, found=found, expected=expected)


def excerpt(value: object, length: int = 60) -> str:
    """The beginning of a value for a message: one line of at most ``length`` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text[: 4 * length].split())
    return text if len(text) <= length else text[: length - 1] + "…"
