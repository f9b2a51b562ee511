"""native: the model's own chat template shows the tools and writes the calls.

The spelling is learned from the template (:mod:`punie.formats.spelling`). Templates that show tools and leave
the calls to the content get the family's spelling there; templates without tools get the prompted format.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from punie.formats import Call, Format, Message, TemplateInput, prompted
from punie.formats.chat import Chat, Conversation
from punie.formats.learning import Unlearnable, learn
from punie.formats.messages import arguments_as_text
from punie.formats.reading import parse
from punie.formats.spelling import CALL_ID, CONTENT, HERMES, PROBE, PROBE_TOOL, PYTHONIC, Spelling
from punie.formats.tools import Tool

_BY_TEMPLATE = dataclasses.replace(HERMES, by_template=True)
"""In use while the template's own spelling is not known yet."""
_USER: Message = {"role": "user", "content": "zqrequestqz"}


def build(tokenizer: Any, options: Mapping[str, Any]) -> Format:
    """The format for a model's template; the prompted one where the template shows no tools.

    Raises:
        ValueError: The template writes calls in a way that cannot be read back.
    """
    shown = Chat(tokenizer, _format({}, _BY_TEMPLATE), options).prompt(Conversation([_USER], [PROBE_TOOL]))
    if PROBE_TOOL.name not in shown or PROBE_TOOL.description not in shown:
        return prompted.build(tokenizer, options)
    problem: Exception | None = None
    for text in (False, True):
        record = {"arguments_as_text": text}
        chat = Chat(tokenizer, _format(record, _BY_TEMPLATE), options)
        try:
            return _format(record, _learned(chat))
        except Unlearnable as error:
            problem = problem or error
        except Exception as error:  # the template is a program, and some take arguments as text only
            problem = problem or error
    source = getattr(tokenizer, "chat_template", None) or ""
    if "tool_calls" in source and not isinstance(problem, Unlearnable):
        raise ValueError(f"the chat template cannot write tool calls: {problem}")
    return _format({}, PYTHONIC if "<|tool_list_start|>" in source else HERMES)


def restore(record: Mapping[str, Any]) -> Format:
    """The format from its record."""
    values: dict[str, Any] = record["spelling"]
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return _format(record, Spelling(**{**values, **lists}))  # ty: ignore[invalid-argument-type]


def _learned(chat: Chat) -> Spelling:
    def render(calls: Sequence[Call]) -> str:
        return chat.answer(Conversation([_USER, _turn(calls)], [PROBE_TOOL]), 1)

    plain = chat.answer(Conversation([_USER, {"role": "assistant", "content": CONTENT}], [PROBE_TOOL]), 1)
    spelling = learn(render, plain)
    written = render([PROBE])
    return dataclasses.replace(spelling, lead=written[: max(written.find(spelling.canonical), 0)])


def _turn(calls: Sequence[Call]) -> Message:
    listed = [
        {
            "id": CALL_ID,
            "type": "function",
            "function": {"name": call.tool, "arguments": dict(call.arguments)},
        }
        for call in calls
    ]
    return {"role": "assistant", "content": "", "tool_calls": listed}


def _format(record: Mapping[str, Any], spelling: Spelling) -> Format:
    def template_input(messages: Sequence[Message], tools: Collection[Tool]) -> TemplateInput:
        turns = (
            list(messages)
            if spelling.by_template
            else [prompted.in_content(each, spelling) for each in messages]
        )
        if record.get("arguments_as_text"):
            turns = [arguments_as_text(each) for each in turns]
        return turns, {"tools": [tool.declaration for tool in tools]} if tools else {}

    return Format(
        name="native",
        parse=functools.partial(parse, spelling),
        spellings=spelling.openings(),
        template_input=template_input,
        untyped=spelling.holder == "tagged",
        record={**record, "spelling": dataclasses.asdict(spelling)},
    )
