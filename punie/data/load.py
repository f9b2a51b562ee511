"""Training examples from a JSONL file in any chat format that mlx-lm reads: all of them, or every problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from punie.formats import Message
from punie.formats.messages import KEYS, PLAIN, ROLES, check_turn, read_turns
from punie.formats.tools import Tool, own_tools, wrong_tools
from punie.util import jsonl
from punie.util.errors import DataError
from punie.util.plain import is_text

NEXT_STEP = "Set data.path to a folder with train.jsonl and valid.jsonl, or run: punie data build"

SHAPE = '{"messages": [{"role": …, "content": …}, …]}, {"prompt": …, "completion": …} or {"text": …}'

_LOSS_KEYS = ("weight", "train", "training", "loss")
"""Keys of a turn by which OpenAI, axolotl and ms-swift say whether it has loss: 0 or 1, false or true."""
ROW_KEYS = {"messages", "tools", "functions", "chat_template_kwargs", "system", "prompt", "completion"}
ROW_KEYS |= {"text", "parallel_tool_calls"}
_DECISIVE_KEYS = {
    "images": "punie reads text alone",
    "image": "punie reads text alone",
    "videos": "punie reads text alone",
    "audios": "punie reads text alone",
    "documents": 'give them to the template: "chat_template_kwargs": {"documents": […]}',
    "rejected": "it is one half of a preference pair; lora.method=dpo is not there yet",
    "rejected_response": "it is one half of a preference pair; lora.method=dpo is not there yet",
}
"""Keys that change what an example means, and that nothing reads: what to do about them."""
_OTHER_FORMATS = {
    "conversations": "ShareGPT's: rename it to messages, from to role (human: user, gpt: assistant), value "
    "to content",
    "instruction": "Alpaca's: make instruction and input the prompt, and output the completion",
    "chosen": "a preference pair's: lora.method=dpo is not there yet; sft wants one completion",
}


@dataclass(frozen=True)
class Row:
    """One training example."""

    messages: tuple[Message, ...]
    """Its turns; empty for an example that is text alone. Content is text, and ``tool_calls`` are in OpenAI's
    form with their arguments as objects."""
    line: int
    """Its line in the file, counted from 1."""
    tools: tuple[Tool, ...] = ()
    """What may be called, where the example says so itself."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """``chat_template_kwargs``: options of the chat template for this example."""
    silent: frozenset[int] = frozenset()
    """Positions of the assistant turns without loss, by ``weight`` or ``train``."""
    text: str | None = None
    """An example that is not a conversation; loss is on all of it."""
    unused: tuple[str, ...] = ()
    """Keys that nothing reads."""

    def turns(self, *, every: bool) -> list[int]:
        """Positions of the assistant turns with loss: the last one, or every one, less the silent ones."""
        found = [at for at, message in enumerate(self.messages) if message["role"] == "assistant"]
        return [at for at in (found if every else found[-1:]) if at not in self.silent]


def load_rows(path: Path) -> list[Row]:
    """Read a JSONL file of examples in one pass.

    Raises:
        DataError: The file is missing, cannot be read or is empty.
        Problems: Rows are wrong: the first 20 problems with their lines, and how many more there are.
    """
    lines = jsonl.load(
        path,
        check_row,
        kind="The training data",
        expected="a JSONL file, one example a line: " + SHAPE,
        next_step=NEXT_STEP,
    )
    return [read_row(line.value, line.number) for line in lines]


def unused_keys(rows: Iterable[Row]) -> Counter[str]:
    """Number of rows by the keys that nothing reads."""
    return Counter(key for row in rows for key in row.unused)


def read_row(value: Mapping[str, Any], line: int) -> Row:
    """An example from the JSON object of a line, in which :func:`check_row` found no problem."""
    if isinstance(value.get("text"), str) and "messages" not in value and "completion" not in value:
        return Row((), line, text=value["text"], unused=tuple(sorted(value.keys() - {"text"})))
    messages = _messages(value)
    if all(message.keys() == PLAIN and isinstance(message["content"], str) for message in messages):
        turns, silent, unused = tuple(messages), frozenset(), set()
    else:
        turns = read_turns(messages)
        silent = frozenset(at for at, message in enumerate(messages) if not _learned(message))
        unused = {f"messages.{key}" for message in messages for key in message.keys() - KEYS - {*_LOSS_KEYS}}
    unused |= value.keys() - ROW_KEYS
    options = value.get("chat_template_kwargs") or {}
    return Row(turns, line, own_tools(value), options, silent, unused=tuple(sorted(unused)))


def _messages(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The turns of a row as they are written there."""
    messages = value.get("messages")
    if messages is None:
        prompt, completion = value["prompt"], value["completion"]
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        answer = (
            completion if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
        )
        messages = [*messages, *answer]
    if isinstance(value.get("system"), str):
        messages = [{"role": "system", "content": value["system"]}, *messages]
    return messages


def _learned(message: Mapping[str, Any]) -> bool:
    return all(message.get(key) in (None, 1) for key in _LOSS_KEYS)


def check_row(row: Mapping[str, Any], where: str) -> Iterator[DataError]:
    """Every problem in the shape of one example; none means that :func:`read_row` reads it.

    Args:
        row: The JSON object of a line.
        where: File and line, for the messages.
    """

    def problem(what: str, found: object, expected: str | None = None) -> DataError:
        return DataError(what, where=where, found=jsonl.excerpt(found), expected=expected)

    if "messages" not in row and isinstance(row.get("text"), str) and "completion" not in row:
        if not row["text"].strip():
            yield problem("The text is empty, so there is nothing to learn.", row["text"])
        elif not is_text(row["text"]):
            yield problem("The text is not valid.", "half of a surrogate pair", "complete characters")
        return
    if row.get("messages") is None and not {"prompt", "completion"} <= row.keys():
        other = next((key for key in _OTHER_FORMATS if key in row), None)
        what = (
            f"The row has no 'messages'; '{other}' is {_OTHER_FORMATS[other]}."
            if other
            else "The row has no 'messages'."
        )
        yield problem(what, f"the fields {', '.join(row) or '(none)'}", SHAPE)
        return
    for key in ("prompt", "completion"):
        if row.get("messages") is None and not isinstance(row[key], str | list):
            yield problem(f"'{key}' is neither text nor a list of turns.", row[key], "text")
            return
    if not isinstance(row.get("system", ""), str | None):
        yield problem("'system' is not text.", row["system"], "a string")
        return
    if not isinstance(row.get("messages"), list | None) or not (messages := _messages(row)):
        found = row.get("messages", [])
        yield problem("'messages' is not a list of turns.", found, '[{"role": …, "content": …}, …]')
        return
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            yield problem(f"Turn {number} is not an object.", message)
            continue
        for fault in check_turn(message, number):
            yield problem(*fault)
        for key in _LOSS_KEYS:
            if message.get(key) not in (None, 0, 1):
                what = f"'{key}' of turn {number} is neither 0 nor 1, and loss has no other weights."
                yield problem(what, message[key], "0 (no loss) or 1")
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") in ROLES and last["role"] != "assistant":
        what = "The last turn is not the assistant's, so there is nothing to learn."
        yield problem(what, f"role {last['role']}", "role assistant")
    for key in sorted(_DECISIVE_KEYS.keys() & row.keys()):
        if row[key]:
            yield problem(f"Nothing reads '{key}': {_DECISIVE_KEYS[key]}.", row[key])
    if row.get("label") is False:
        yield problem("'label' says that the example must not be learned; leave it out.", False)
    yield from wrong_tools(row, where)
    if not isinstance(row.get("chat_template_kwargs", {}), dict | None):
        yield problem("'chat_template_kwargs' is not an object.", row["chat_template_kwargs"], "an object")
