"""How tool calls are written and read: the table of formats, and what a format provides.

A format is one module and one line in ``FORMATS``. The module has two: ``build(tokenizer, options)``
gives the :class:`Format` for a model; ``restore(record)`` gives it again from :attr:`Format.record`, to those
who read a run without its model. It may have a third, ``system_prompt(tools)``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal, Protocol

from punie.formats.tools import Tool

Message = Mapping[str, Any]
"""``{"role": "system" | "user" | "assistant" | "tool", "content": str}``."""

TemplateInput = tuple[list[Message], dict[str, Any]]
"""What a chat template is given: turns, and options such as ``tools``."""


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    tool: str
    """The tool's name."""
    arguments: Mapping[str, Any]
    """Values by parameter name."""


@dataclass(frozen=True)
class Block:
    """One call as a response writes it, or one tool-call block that cannot be read."""

    name: str | None = None
    """The function called; None where the block does not say."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments, as far as they could be read."""
    problem: Literal["malformed", "truncated"] | None = None
    """Why the block cannot be read; None if it can."""


@dataclass(frozen=True)
class Completion:
    """A model's response, parsed."""

    text: str
    """The raw response, unchanged."""
    blocks: tuple[Block, ...] = ()
    """The calls, in order, and one block for each that cannot be read."""
    before: str = ""
    """The text before the first block, without thoughts; all of it if there is no block."""
    unfinished_thought: bool = False
    """The text opens ``<think>`` and never closes it, so there is no response yet."""
    has_block: bool = False
    """Whether the mark that opens a tool-call block occurs anywhere: all that the keyword score asks."""
    code_tool: str | None = None
    """:attr:`Format.code_tool` of the format that parsed it."""

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls that could be read, as they are written."""
        return tuple(
            Call(each.name, each.arguments) for each in self.blocks if each.name and not each.problem
        )

    @property
    def code(self) -> str | None:
        """The program to run: the code of all blocks in order. None unless every block is readable code."""
        calls = self.calls
        if not calls or len(calls) < len(self.blocks) or {call.tool for call in calls} != {self.code_tool}:
            return None
        return "\n".join(call.arguments["code"] for call in calls)

    def joined(self, sent: Sequence[Mapping[str, Any]], *, truncated: bool = False) -> Completion:
        """With calls that a server sent beside the text; those that can be read in the text are among them.

        Args:
            sent: ``{"name": …, "arguments": …}``; arguments that are text are no JSON, and cannot be read.
            truncated: Generation ended at the token limit.
        """
        if not sent:
            return self
        blocks = [each for each in self.blocks if each.problem]
        for each in sent:
            name, arguments = each["name"], each["arguments"]
            read = isinstance(arguments, Mapping)
            if name == self.code_tool:
                read = read and list(arguments) == ["code"] and isinstance(arguments["code"], str)
            cut = truncated and each is sent[-1]
            problem = None if read else "truncated" if cut else "malformed"
            blocks.append(Block(name, arguments if read else {}, problem))
        return replace(self, text=with_calls(self.text, sent), blocks=tuple(blocks), has_block=True)


def with_calls(text: str, sent: Sequence[Mapping[str, Any]]) -> str:
    """A response's text with a line of JSON for each call that a server sent beside it."""
    return "\n".join([*filter(None, [text]), *(json.dumps(each, ensure_ascii=False) for each in sent)])


class Parse(Protocol):
    """A parser of responses. It never raises, and takes time linear in the length of the text."""

    def __call__(self, text: str, *, tools: Collection[Tool] = (), truncated: bool = False) -> Completion:
        """Parse a response.

        Args:
            text: The raw response, special tokens included.
            tools: What may be called; values that are written without a type get theirs from the schemas.
            truncated: Generation ended at the token limit. A block that is never closed is then
                ``truncated``, otherwise ``malformed``.
        """
        ...


def plain_template(messages: Sequence[Message], _: Collection[Tool]) -> TemplateInput:
    """The turns as they are, and no options: the template is told of no tools."""
    return list(messages), {}


def chat_turns(completion: Completion, results: Sequence[str], calls: int) -> list[Message]:
    """A response and the results of its calls as a client of a chat API sends them back.

    Args:
        completion: The response, all of whose calls can be read. Its thought, and what follows the calls, are
            left out.
        results: What each call returned.
        calls: Number of calls in the conversation so far, for the ids.
    """
    content = completion.before.strip()
    if not completion.calls:
        return [{"role": "assistant", "content": content}]
    ids = [f"call{number:05d}" for number, _ in enumerate(completion.calls, calls)]
    made = [
        {"id": name, "type": "function", "function": {"name": each.tool, "arguments": dict(each.arguments)}}
        for name, each in zip(ids, completion.calls, strict=True)
    ]
    turns = [
        {"role": "tool", "content": result, "tool_call_id": name}
        for name, result in zip(ids, results, strict=True)
    ]
    return [{"role": "assistant", "content": content, "tool_calls": made}, *turns]


@dataclass(frozen=True)
class Format:
    """One way to write tool calls."""

    name: str
    """Its name in ``FORMATS``."""
    parse: Parse
    """From a response's text to its calls."""
    spellings: Mapping[str, str]
    """Name to text of the ways in which a response may open a tool-call block, up to where nothing but a call
    can follow. None is the beginning of another. The first is the canonical one, which training teaches. The
    format lock is the sum of their probabilities."""
    template_input: Callable[[Sequence[Message], Collection[Tool]], TemplateInput] = plain_template
    """From messages and tools to what the chat template is given: turns, and options such as ``tools``."""
    turns: Callable[[Completion, Sequence[str], int], list[Message]] = chat_turns
    """From a response and the results of its calls to the turns with which a conversation goes on."""
    code_tool: str | None = None
    """The tool whose argument ``code`` is run in the sandbox: the calls that count are those that the code
    makes. None if they are the calls in the response itself."""

    untyped: bool = False
    """Values are written without a type: they get it from the schemas, also where a server has read them."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values from which the module's ``restore`` makes it again."""

    def __reduce__(self) -> tuple[Any, ...]:
        """A format in another process is made again there: it holds functions."""
        return restore, (self.name, self.record)

    def opening(self, text: str) -> str | None:
        """The name of the spelling that a response opens with, or None."""
        return next((name for name, spelling in self.spellings.items() if text.startswith(spelling)), None)


FORMATS = {
    "native": "punie.formats.native",
    "prompted": "punie.formats.prompted",
    "code_mode": "punie.formats.code_mode",
}
"""Format name to module; imported when it is used."""

AUTO = "auto"
"""``format=auto``: code_mode for examples without tools and calls, else native."""


def build(name: str, tokenizer: Any, options: Mapping[str, Any] | None = None) -> Format:
    """The format of that name for a model.

    Args:
        name: One of ``FORMATS``.
        tokenizer: The model's tokenizer with its chat template.
        options: Options of the template (``model.template_args``).

    Raises:
        ValueError: The model's template cannot write calls in this format.
    """
    return import_module(FORMATS[name]).build(tokenizer, options or {})


def restore(name: str, record: Mapping[str, Any]) -> Format:
    """The format of that name from :attr:`Format.record`."""
    return import_module(FORMATS[name]).restore(record)


def system_prompt(name: str, tools: Collection[Tool]) -> str:
    """The system prompt of a format for a set of tools, where the config has none; empty for none."""
    module = import_module(FORMATS[name])
    return module.system_prompt(tools) if hasattr(module, "system_prompt") else ""
