"""JSON-lines files, read a line at a time: whatever is wrong with a line comes back with its place."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from punie.errors import DataError

MAX_LINE = 16 * 2**20
"""Longest line read, in bytes: a longer one is named and passed over without being held in memory."""


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
    """Every line of a file in order, CRLF or LF.

    Args:
        path: The file.
        max_line: Longest line read, in bytes.

    Raises:
        OSError: The file is missing or cannot be read.
    """
    with path.open("rb") as file:
        number = 0
        while content := file.readline(max_line + 1):
            number += 1
            if len(content) > max_line:
                size = len(content)
                while not content.endswith(b"\n") and (content := file.readline(max_line)):
                    size += len(content)
                yield Line(number, {}, _too_long(f"{path}:{number}", size, max_line), size)
                continue
            parsed = _parse(content, f"{path}:{number}")
            value, problem = ({}, parsed) if isinstance(parsed, DataError) else (parsed, None)
            yield Line(number, value, problem, len(content))


def _too_long(where: str, size: int, max_line: int) -> DataError:
    return DataError(
        "The line is too long.", where=where, found=f"{size:,} bytes", expected=f"at most {max_line:,} bytes"
    )


def _parse(content: bytes, where: str) -> dict[str, Any] | DataError:
    if content.startswith(codecs.BOM_UTF8):
        return DataError(
            "The file begins with a byte order mark.",
            where=where,
            found="the bytes EF BB BF ahead of the first object",
            expected="UTF-8 without a byte order mark",
            next_step="Save the file as plain UTF-8.",
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        found = f"byte 0x{byte:02X} at column {error.start + 1}"
        return DataError("The line is not valid UTF-8.", where=where, found=found, expected="UTF-8 text")
    if not text.strip():
        return DataError("The line is empty.", where=where, expected="one JSON object")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        found = f"{error.msg} at column {error.colno}: {excerpt(text)}"
        return DataError("The line is not JSON.", where=where, found=found, expected="one JSON object")
    except (ValueError, RecursionError) as error:  # a number of over 4,300 digits; nested too deeply
        return DataError("The line is not JSON that can be read.", where=where, found=str(error)[:100])
    if not isinstance(value, dict):
        found = excerpt(text)
        return DataError(
            "The line is not a JSON object.", where=where, found=found, expected="one JSON object"
        )
    return value


def excerpt(value: object, length: int = 60) -> str:
    """The beginning of a value, for a message: on one line and at most ``length`` characters long."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text[: 4 * length].split())
    return text if len(text) <= length else text[: length - 1] + "…"
