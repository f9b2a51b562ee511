"""Chat-format training rows from a JSONL file: all of them, or every problem that stands in the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.formats.prompts import Message
from punie.util import jsonl
from punie.util.errors import DataError

ROLES = ("system", "user", "assistant", "tool")
"""The roles a message may have."""

NEXT_STEP = "Set data.path to a folder with train.jsonl and valid.jsonl, or run: punie data build"


@dataclass(frozen=True)
class Row:
    """One conversation."""

    messages: tuple[Message, ...]
    """Its turns; the last is the assistant's."""
    line: int
    """Its line in the file, counted from 1."""


def load_rows(path: Path) -> list[Row]:
    """Read a JSONL file of conversations in one pass.

    Args:
        path: A file with one ``{"messages": [...]}`` a line.

    Raises:
        DataError: The file is missing, cannot be read or is empty.
        Problems: Rows are wrong: the first 20 problems with their lines, and how many more there are.
    """
    lines = jsonl.load(
        path,
        check_messages,
        kind="The training data",
        expected="a JSONL file of conversations, one a line",
        next_step=NEXT_STEP,
    )
    return [Row(tuple(line.value["messages"]), line.number) for line in lines]


def check_messages(row: Mapping[str, Any], where: str) -> Iterator[DataError]:
    """Every problem in the shape of one row; none means that :class:`Row` can hold it.

    Args:
        row: The JSON object of a line.
        where: File and line, for the messages.
    """
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        found = (
            jsonl.excerpt(messages)
            if "messages" in row
            else f"the fields {jsonl.excerpt(', '.join(row)) or '(none)'}"
        )
        what = "'messages' is not a list of turns." if "messages" in row else "The row has no 'messages'."
        yield DataError(
            what, where=where, found=found, expected='{"messages": [{"role": …, "content": …}, …]}'
        )
        return
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            found = jsonl.excerpt(message)
            yield DataError(f"Turn {number} is not an object.", where=where, found=found)
            continue
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            what = (
                f"Turn {number} has an unknown role." if "role" in message else f"Turn {number} has no role."
            )
            yield DataError(
                what, where=where, found=jsonl.excerpt(role), expected=f"one of {', '.join(ROLES)}"
            )
        if not isinstance(content, str):
            what = f"The content of turn {number} is {'not text' if 'content' in message else 'missing'}."
            yield DataError(what, where=where, found=jsonl.excerpt(content), expected="a string")
        elif not content.isascii() and not _encodable(content):
            what = f"The content of turn {number} is not valid text."
            yield DataError(
                what, where=where, found="half of a surrogate pair", expected="complete characters"
            )
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") in ROLES and last["role"] != "assistant":
        what = "The last turn is not the assistant's, so there is nothing to learn."
        yield DataError(what, where=where, found=f"role {last['role']}", expected="role assistant")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
