"""Training examples in chat format, from a JSONL file: all of them, or every problem of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.formats.prompts import Message
from punie.util import jsonl
from punie.util.errors import DataError
from punie.util.plain import is_text

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
        path: A file with one ``{"messages": [...]}`` per line.

    Raises:
        DataError: The file is missing, cannot be read or is empty.
        Problems: Rows are wrong: the first 20 problems with their lines, and how many more there are.
    """
    lines = jsonl.load(
        path,
        check_messages,
        kind="The training data",
        expected="a JSONL file of conversations, one per line",
        next_step=NEXT_STEP,
    )
    return [Row(tuple(line.value["messages"]), line.number) for line in lines]


def check_messages(row: Mapping[str, Any], where: str) -> Iterator[DataError]:
    """Every problem in the shape of one example; none means that :class:`Row` can hold it.

    Args:
        row: The JSON object of a line.
        where: File and line, for the messages.
    """

    def problem(what: str, found: object, expected: str | None = None) -> DataError:
        return DataError(what, where=where, found=jsonl.excerpt(found), expected=expected)

    messages, shape = row.get("messages"), '{"messages": [{"role": …, "content": …}, …]}'
    if "messages" not in row:
        yield problem("The row has no 'messages'.", f"the fields {', '.join(row) or '(none)'}", shape)
        return
    if not isinstance(messages, list) or not messages:
        yield problem("'messages' is not a list of turns.", messages, shape)
        return
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            yield problem(f"Turn {number} is not an object.", message)
            continue
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            fault = "an unknown role" if "role" in message else "no role"
            yield problem(f"Turn {number} has {fault}.", role, f"one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            fault = "not text" if "content" in message else "missing"
            yield problem(f"The content of turn {number} is {fault}.", content, "a string")
        elif not content.isascii() and not is_text(content):
            what = f"The content of turn {number} is not valid text."
            yield problem(what, "half of a surrogate pair", "complete characters")
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") in ROLES and last["role"] != "assistant":
        what = "The last turn is not the assistant's, so there is nothing to learn."
        yield problem(what, f"role {last['role']}", "role assistant")
