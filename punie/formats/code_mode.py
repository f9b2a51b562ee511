"""From a model's raw output to the calls it made: the output is data, and this is all that reads it.

Accepted spellings of the wrapper, with any white space between the tags or none:

    <tool_call><function=execute_code><parameter=code>…</parameter></function></tool_call>
    <tool_call>{"name": "execute_code", "arguments": {"code": "…"}}</tool_call>

A block may hold several calls. A call of any other function is kept as it is: a tool that was called
natively instead of in code (a *direct call* in spirit: the right idea, outside the one real tool).

The text is cut at each opening tag, and every pattern is either anchored by ``match`` or begins with a
literal, so the time is linear in the text whatever a model writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from punie.formats.tools import EXECUTE_CODE

Problem = Literal["malformed", "truncated"]

OPEN, CLOSE = "<tool_call>", "</tool_call>"
# Code may hold the text "<tool_call>" too: beyond the first, only one that structure follows opens a block.
_OPENING = re.compile(rf"{OPEN}(?=\s*(?:<function=|\{{))")
_FUNCTION = re.compile(r"\s*<function=([\w.-]{1,100})>")
_FUNCTION_END = re.compile(r"\s*</function>")
_PARAMETER = re.compile(r"\s*<parameter=([\w.-]{1,100})>")
# Code may hold the text "</parameter>": the value ends at the one that structure follows.
_VALUE_END = re.compile(r"</parameter>(?=\s*<(?:parameter=|/function>))")
_BLOCK_END = re.compile(rf"\s*{CLOSE}")
_JSON_START = re.compile(r"\s*(?=\{)")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Block:
    """One call made through the wrapper, or one wrapper that could not be read."""

    name: str | None = None
    """The function called; None where the block did not say."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments: text from the XML spelling, any JSON value from the other."""
    problem: Problem | None = None
    """Why the block cannot be read; None when it can."""

    @property
    def code(self) -> str | None:
        """The Python code, when this is a readable call of ``execute_code``."""
        return self.arguments["code"] if self.name == EXECUTE_CODE and self.problem is None else None


@dataclass(frozen=True)
class Completion:
    """A model's output, taken apart."""

    text: str
    """The raw output, unchanged."""
    blocks: tuple[Block, ...]
    """The calls, in order; one block for each wrapper that could not be read."""
    before: str
    """The answer's text ahead of the first block, thoughts left out; all of it if there is no block."""
    after: str
    """The text behind the last block."""
    unfinished_thought: bool
    """The text opens ``<think>`` and never closes it: there is no answer yet."""

    @property
    def has_wrapper(self) -> bool:
        """Whether the literal ``<tool_call>`` occurs anywhere: all that the published rule asks."""
        return OPEN in self.text

    @property
    def problem(self) -> Problem | None:
        """The first block's problem that has one."""
        return next((block.problem for block in self.blocks if block.problem), None)

    @property
    def code(self) -> str | None:
        """The program to run: the blocks' code in order, or None unless every block is readable code."""
        codes = [block.code for block in self.blocks]
        return "\n".join(code for code in codes if code is not None) if codes and None not in codes else None


def parse(text: str, *, truncated: bool = False) -> Completion:
    """Take a model's output apart. Never raises; linear in the length of the text.

    Args:
        text: The raw output, special tokens included.
        truncated: Generation ended at the token limit. A block that was never closed is then
            ``truncated``, otherwise ``malformed``.
    """
    start, unfinished = _skip_thoughts(text)
    first = text.find(OPEN, start)
    if first < 0:
        return Completion(text, _bare_function(text[start:]), text[start:], "", unfinished)
    openings = [first, *(match.start() for match in _OPENING.finditer(text, first + 1))]
    blocks: list[Block] = []
    after = ""
    for opening, following in zip(openings, [*openings[1:], len(text)], strict=True):
        segment = text[opening + len(OPEN) : following]
        calls, end = _read_block(segment)
        if calls is None:
            unclosed = truncated and following == len(text) and CLOSE not in segment
            calls = [Block(problem="truncated" if unclosed else "malformed")]
        blocks += calls
        after = segment[end:]
    return Completion(text, tuple(blocks), text[start:first], after, unfinished)


def _skip_thoughts(text: str) -> tuple[int, bool]:
    """Where the answer starts behind a ``<think>`` preamble, and whether the thought never ends.

    A prompt may open the thought itself, so a lone ``</think>`` ahead of the first wrapper counts too.
    """
    opened = text[:100].lstrip().startswith("<think>")
    close = text.find("</think>")
    if close >= 0 and (opened or OPEN not in text[:close]):
        return close + len("</think>"), False
    return (len(text), True) if opened and close < 0 else (0, False)


def _bare_function(answer: str) -> tuple[Block, ...]:
    """A ``<function=…>`` without any wrapper around it, as one unreadable block."""
    position = answer.find("<function=")
    match = _FUNCTION.match(answer, position) if position >= 0 else None
    return (Block(match[1], problem="malformed"),) if match else ()


def _read_block(segment: str) -> tuple[list[Block] | None, int]:
    """The calls between ``<tool_call>`` and its end, or None where they cannot be read; where it ends."""
    calls: list[Block] = []
    position = 0
    while not (end := _BLOCK_END.match(segment, position)):
        json_start = _JSON_START.match(segment, position)
        call, position = _read_json(segment, json_start.end()) if json_start else _read_xml(segment, position)
        if call is None or (call.name == EXECUTE_CODE and not _is_code(call.arguments)):
            close = segment.find(CLOSE)
            return None, close + len(CLOSE) if close >= 0 else len(segment)
        calls.append(call)
    return calls or None, end.end()


def _is_code(arguments: Mapping[str, Any]) -> bool:
    return list(arguments) == ["code"] and isinstance(arguments["code"], str)


def _read_xml(segment: str, position: int) -> tuple[Block | None, int]:
    """One ``<function=…>…</function>`` and the position behind it; None where there is none."""
    function = _FUNCTION.match(segment, position)
    if function is None:
        return None, position
    arguments: dict[str, str] = {}
    position = function.end()
    while parameter := _PARAMETER.match(segment, position):
        value_end = _VALUE_END.search(segment, parameter.end())
        if value_end is None:
            return None, position
        arguments[parameter[1]] = segment[parameter.end() : value_end.start()].strip()
        position = value_end.end()
    end = _FUNCTION_END.match(segment, position)
    return (Block(function[1], arguments), end.end()) if end else (None, position)


def _read_json(segment: str, position: int) -> tuple[Block | None, int]:
    """One ``{"name": …, "arguments": {…}}`` and the position behind it; None where there is none."""
    try:
        value, end = _DECODER.raw_decode(segment, position)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        # Not JSON, half of a surrogate pair, a number of over 4,300 digits, brackets nested too deeply.
        return None, position
    name, arguments = value.get("name"), value.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None, end
    return Block(name, arguments), end
