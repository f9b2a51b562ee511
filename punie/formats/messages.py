"""Turns of a conversation, in every form that people's exports hold, read into the one that templates get."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from punie.formats import Message
from punie.util.plain import is_text, parse_json

ROLES = ("system", "developer", "user", "assistant", "tool")
"""The roles a message may have; ``function`` is read as ``tool``."""

PLAIN = {"role", "content"}
"""The keys of a turn that is nothing but text."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
KEYS = {*PLAIN, "name", "tool_calls", "tool_call_id", "function_call", *_THOUGHTS}
"""Keys of a turn that are read."""
_TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of parts that are text; the last two are those of OpenAI's Responses API."""
_CALL_ID = re.compile(r"[A-Za-z0-9]{9}")


def read_turns(messages: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Turns in the one form that templates are given; :func:`check_turn` has found no problem in them."""
    calls: dict[str, str] = {}
    return tuple(_turn(message, calls) for message in messages)


def _turn(message: Mapping[str, Any], ids: dict[str, str]) -> Message:
    """A turn in the one form that templates are given. ``ids`` are those of the calls so far."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    role = message["role"]
    turn: dict[str, Any] = {"role": "tool" if role == "function" else role, "content": content or ""}
    turn |= {key: message[key] for key in ("name", *_THOUGHTS) if isinstance(message.get(key), str)}
    if calls := _calls(message):
        turn["tool_calls"] = [_call(each, ids) for each in calls]
    if turn["role"] == "tool":
        given = message.get("tool_call_id")
        known = ids.get(given) if isinstance(given, str) else next(reversed(ids.values()), None)
        turn["tool_call_id"] = known or given or "call00000"
    return turn


def _calls(message: Mapping[str, Any]) -> Any:
    """The calls of a turn as they are written there, ``function_call`` as one of them."""
    calls = message.get("tool_calls") or []
    called = message.get("function_call")
    return [*calls, {"function": called}] if called and isinstance(calls, list) else calls


def _call(call: Mapping[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """A call in OpenAI's form. An id that not every template takes (nine letters and digits) is replaced."""
    function = call.get("function", call)
    arguments = function.get("arguments") or {}
    given = call.get("id")
    name = given if isinstance(given, str) and _CALL_ID.fullmatch(given) else f"call{len(ids):05d}"
    ids[given if isinstance(given, str) else name] = name
    arguments = parse_json(arguments) if isinstance(arguments, str) else arguments
    return {"id": name, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def arguments_as_text(message: Message) -> Message:
    """A turn whose calls have their arguments as JSON text."""
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        given = call["function"]["arguments"]
        text = given if isinstance(given, str) else json.dumps(given)
        calls.append({**call, "function": {**call["function"], "arguments": text}})
    return {**message, "tool_calls": calls}


def check_turn(message: Mapping[str, Any], number: int) -> Iterator[tuple[str, object, str | None]]:
    """What is wrong with a turn, what was found, and what was expected."""
    role, content = message.get("role"), message.get("content")
    if role not in ROLES and role != "function":
        fault = "an unknown role" if "role" in message else "no role"
        yield f"Turn {number} has {fault}.", role, f"one of {', '.join(ROLES)}"
    calls = _calls(message)
    if isinstance(content, list):
        for part in content:
            if (
                not isinstance(part, dict)
                or part.get("type", "text") not in _TEXT_PARTS
                or not isinstance(part.get("text"), str)
            ):
                yield f"Turn {number} has a part that is not text.", part, '{"type": "text", "text": …}'
                return
        content = "".join(part["text"] for part in content)
    if content is None and (
        calls or ("content" in message and role == "assistant" and "tool_calls" in message)
    ):
        content = ""
    if not isinstance(content, str):
        fault = "not text" if "content" in message else "missing"
        yield f"The content of turn {number} is {fault}.", content, "a string"
    elif not content.isascii() and not is_text(content):
        yield (
            f"The content of turn {number} is not valid text.",
            "half of a surrogate pair",
            "complete characters",
        )
    if not isinstance(calls, list):
        yield (
            f"'tool_calls' of turn {number} is not a list.",
            calls,
            '[{"function": {"name": …, "arguments": {…}}}]',
        )
        return
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if (
            not isinstance(function, dict)
            or not isinstance(function.get("name"), str)
            or not function["name"]
        ):
            yield (
                f"Turn {number} has a call without a name.",
                call,
                '{"function": {"name": …, "arguments": {…}}}',
            )
            continue
        arguments = function.get("arguments") or {}
        if isinstance(arguments, str):
            try:
                arguments = parse_json(arguments)
            except ValueError as error:
                yield (
                    f"Turn {number}: the arguments of '{function['name']}' are not JSON.",
                    str(error),
                    "an object, or its JSON text",
                )
                continue
        if not isinstance(arguments, dict):
            yield (
                f"Turn {number}: the arguments of '{function['name']}' are not an object.",
                arguments,
                "an object",
            )
        elif not is_text(arguments):
            yield (
                f"Turn {number}: the arguments of '{function['name']}' are not valid text.",
                "half of a surrogate pair",
                None,
            )
    if calls and role != "assistant":
        yield f"Turn {number} has calls and is not the assistant's.", role, "role assistant"
