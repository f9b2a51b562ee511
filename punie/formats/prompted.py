"""prompted: for chat templates that know no tools.

The system prompt holds the tools' schemas, calls are ``<tool_call>`` blocks in the content, and what a tool
returns is a user's turn. The blocks hold JSON, as Hermes's, unless ``<function=`` is one token: the embedded
models have never seen ``{``, and with frozen embeddings they cannot learn to tell it from other such tokens.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from punie.formats import Call, Format, Message, TemplateInput
from punie.formats.chat import Chat, Conversation
from punie.formats.reading import parse
from punie.formats.spelling import CONTENT, HERMES, TAGGED, Spelling
from punie.formats.tools import Tool

_INSTRUCTION = """You may call functions. Their JSON schemas, one a line:
<tools>
{tools}
</tools>
To call one, write its name and its arguments between tags:
{example}
If no function is needed, answer in words."""

_EXAMPLE = Call("FUNCTION", {"ARGUMENT": "VALUE"})


def in_content(message: Message, spelling: Spelling) -> Message:
    """A turn whose calls, if it has any, are part of its content."""
    if "tool_calls" not in message:
        return message
    calls = [Call(each["function"]["name"], each["function"]["arguments"]) for each in message["tool_calls"]]
    content = "\n".join(filter(None, [message["content"], spelling.render(calls)]))
    return {**{key: value for key, value in message.items() if key != "tool_calls"}, "content": content}


def build(tokenizer: Any, options: Mapping[str, Any]) -> Format:
    """The format for a model's template, which may refuse a system turn."""
    user: Message = {"role": "user", "content": "zqrequestqz"}
    probe = [{"role": "system", "content": "zqsystemqz"}, user]
    try:
        text = tokenizer.apply_chat_template(probe, tokenize=False, add_generation_prompt=True, **options)
    except Exception:  # the template is a program, and some raise for a system turn
        text = ""
    record = {"system_turn": "zqsystemqz" in text}
    record |= {"tagged": True} if _knows_marks(tokenizer) else {}
    talk = Conversation([user, {"role": "assistant", "content": CONTENT}])
    lead, found, _ = Chat(tokenizer, restore(record), options).answer(talk, 1).partition(CONTENT)
    return restore({**record, "lead": lead if found else ""})


def _knows_marks(tokenizer: Any) -> bool:
    return len(tokenizer.encode("<function=", add_special_tokens=False)) == 1


def restore(record: Mapping[str, Any]) -> Format:
    """The format from its record."""
    chosen = TAGGED if record.get("tagged") else HERMES
    spelling = dataclasses.replace(chosen, lead=record.get("lead", ""))

    def template_input(messages: Sequence[Message], tools: Collection[Tool]) -> TemplateInput:
        turns = [_user(in_content(each, spelling)) for each in messages]
        if not tools:
            return turns, {}
        listed = "\n".join(json.dumps(tool.declaration, ensure_ascii=False) for tool in tools)
        prompt = _INSTRUCTION.format(tools=listed, example=spelling.render([_EXAMPLE]))
        place = 0 if turns and turns[0]["role"] == "system" else None
        if place is None and record["system_turn"]:
            return [{"role": "system", "content": prompt}, *turns], {}
        if place is None:
            place = next((at for at, turn in enumerate(turns) if turn["role"] == "user"), 0)
        first = turns[place]
        joined = [first["content"], prompt] if first["role"] == "system" else [prompt, first["content"]]
        turns[place] = {**first, "content": "\n\n".join(joined)}
        return turns, {}

    return Format(
        name="prompted",
        parse=functools.partial(parse, spelling),
        spellings=spelling.openings(),
        template_input=template_input,
        untyped=spelling.holder == "tagged",
        record=record,
    )


def _user(message: Message) -> Message:
    """What a tool returned, as the user's turn; any other turn as it is."""
    if message["role"] != "tool":
        return message
    return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
