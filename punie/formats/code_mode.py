"""code_mode: the model calls one tool, ``execute_code``, and the Python code in it calls the others.

Two spellings of a tool-call block are read, with any white space between the tags or none:

    <tool_call><function=execute_code><parameter=code>…</parameter></function></tool_call>
    <tool_call>{"name": "execute_code", "arguments": {"code": "…"}}</tool_call>

A block may hold several calls. A call of any other function is kept as it is: a tool that was called directly
instead of in code.

The text is split at each opening tag, and every pattern is either anchored by ``match`` or begins with a
literal, so the time is linear in the text whatever a model writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from punie.formats import Block, Call, Completion, Format, Message
from punie.formats.thoughts import skip_thoughts
from punie.formats.tools import TOOLS, Tool

EXECUTE_CODE: Final = "execute_code"
"""The only tool that a model calls in a tool-call block."""

OPEN, CLOSE = "<tool_call>", "</tool_call>"
# Code may hold the text "<tool_call>" too: after the first, only one that structure follows opens a block.
_OPENING = re.compile(rf"{OPEN}(?=\s*(?:<function=|\{{))")
_FUNCTION = re.compile(r"\s*<function=([\w.-]{1,100})>")
_FUNCTION_END = re.compile(r"\s*</function>")
_PARAMETER = re.compile(r"\s*<parameter=([\w.-]{1,100})>")
# Code may hold the text "</parameter>": the value ends at the one that structure follows.
_VALUE_END = re.compile(r"</parameter>(?=\s*<(?:parameter=|/function>))")
_BLOCK_END = re.compile(rf"\s*{CLOSE}")
_JSON_START = re.compile(r"\s*(?=\{)")
_DECODER = json.JSONDecoder()


def render(call: Call) -> str:
    """The canonical tool-call block of a call."""
    parameters = "".join(
        f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in call.arguments.items()
    )
    return f"{OPEN}\n<function={call.tool}>\n{parameters}</function>\n{CLOSE}"


def wrap(code: str) -> str:
    """The canonical tool-call block around a piece of Python: what training teaches."""
    return render(Call(EXECUTE_CODE, {"code": code}))


def system_prompt(tools: Collection[Tool] = TOOLS.values()) -> str:
    """The system prompt of the training data and of the suites.

    It is part of every training example, so it is short: the model learns the tools in training, not from it.
    """
    return f"You are Punie. Your {EXECUTE_CODE} runs Python with {len(tools)} tools."


def parse(text: str, *, tools: Collection[Tool] = (), truncated: bool = False) -> Completion:
    """Parse a response, as :class:`punie.formats.Parse` describes."""
    start, unfinished = skip_thoughts(text, OPEN)
    first = text.find(OPEN, start)
    before = text[start:first] if first >= 0 else text[start:]
    blocks = _bare_function(before) if first < 0 else []
    openings = [first, *(match.start() for match in _OPENING.finditer(text, first + 1))] if first >= 0 else []
    for opening, following in zip(openings, [*openings[1:], len(text)], strict=False):
        segment = text[opening + len(OPEN) : following]
        unclosed = truncated and following == len(text) and CLOSE not in segment
        blocks += _read_block(segment) or [Block(problem="truncated" if unclosed else "malformed")]
    return Completion(
        text,
        tuple(blocks),
        before,
        unfinished_thought=unfinished,
        has_block=OPEN in text,
        code_tool=EXECUTE_CODE,
    )


def _bare_function(text: str) -> list[Block]:
    """A ``<function=…>`` outside of any block, as one unreadable block."""
    position = text.find("<function=")
    match = _FUNCTION.match(text, position) if position >= 0 else None
    return [Block(match[1], problem="malformed")] if match else []


def _read_block(segment: str) -> list[Block]:
    """The calls between ``<tool_call>`` and its end; empty if they cannot be read."""
    calls: list[Block] = []
    position = 0
    while not _BLOCK_END.match(segment, position):
        json_start = _JSON_START.match(segment, position)
        call, position = _read_json(segment, json_start.end()) if json_start else _read_xml(segment, position)
        if call is None or (call.name == EXECUTE_CODE and not _is_code(call.arguments)):
            return []
        calls.append(call)
    return calls


def _is_code(arguments: Mapping[str, Any]) -> bool:
    return list(arguments) == ["code"] and isinstance(arguments["code"], str)


def _read_xml(segment: str, position: int) -> tuple[Block | None, int]:
    """One ``<function=…>…</function>`` and the position after it; None where there is none."""
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
    """One ``{"name": …, "arguments": {…}}`` and the position after it; None where there is none."""
    try:
        value, end = _DECODER.raw_decode(segment, position)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        # Not JSON, NaN, half of a surrogate pair, a number of over 4,300 digits, brackets nested too deeply.
        return None, position
    name, arguments = value.get("name"), value.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None, end
    return Block(name, arguments), end


def turns(completion: Completion, results: Sequence[str], _: int) -> list[Message]:
    """A response with its code, and one turn with what it printed: as in the training data, the user's."""
    content = "\n".join([*filter(None, [completion.before.strip()]), *map(render, completion.calls)])
    found: list[Message] = [{"role": "assistant", "content": content}]
    if completion.calls:
        printed = "\n".join(results)
        found.append({"role": "user", "content": f"<tool_response>\n{printed}\n</tool_response>"})
    return found


_XML = wrap("").partition("\n\n")[0]
_JSON = f'{OPEN}\n{{"name": "{EXECUTE_CODE}"'


FORMAT = Format(
    name="code_mode",
    parse=parse,
    # Any white space may stand between the tags: the probability of what is not listed adds to the lock, so
    # the sum over these is a lower bound.
    spellings={
        "canonical": _XML,
        "no line breaks": _XML.replace("\n", ""),
        "JSON": _JSON,
        "JSON, no line break": _JSON.replace("\n", ""),
        "after a line break": f"\n{_XML}",
        "after an empty thought": f"<think>\n\n</think>\n\n{_XML}",
    },
    turns=turns,
    code_tool=EXECUTE_CODE,
)


def build(tokenizer: Any, options: Mapping[str, Any]) -> Format:
    """The format, which is the same for every model."""
    return FORMAT


def restore(record: Mapping[str, Any]) -> Format:
    """The format again."""
    return FORMAT
