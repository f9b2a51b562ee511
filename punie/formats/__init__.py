"""How tool calls are written and read: the table of formats, and what a format provides.

A format is one file and one line in ``FORMATS``. Every other room takes it from :func:`chosen` and does not
know how a call is spelled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any, Literal, Protocol

from punie.formats.tools import Tool

Message = Mapping[str, Any]
"""``{"role": "system" | "user" | "assistant" | "tool", "content": str}``."""


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


class Parse(Protocol):
    """A parser of responses. It never raises, and takes time linear in the length of the text."""

    def __call__(self, text: str, *, truncated: bool = False) -> Completion:
        """Parse a response.

        Args:
            text: The raw response, special tokens included.
            truncated: Generation ended at the token limit. A block that is never closed is then
                ``truncated``, otherwise ``malformed``.
        """
        ...


def plain_template(messages: Sequence[Message], _: Collection[Tool]) -> tuple[list[Message], dict[str, Any]]:
    """The turns as they are, and no options: the template is told of no tools."""
    return list(messages), {}


@dataclass(frozen=True)
class Format:
    """One way to write tool calls."""

    parse: Parse
    """From a response's text to its calls."""
    render: Callable[[Call], str]
    """The call in the canonical spelling; parsing that text gives the call."""
    spellings: Mapping[str, str]
    """Name to text of the ways in which a response may open a tool-call block, up to where nothing but a call
    can follow. None is the beginning of another. The first is the canonical one, which training teaches. The
    format lock is the sum of their probabilities."""
    system_prompt: Callable[[Collection[Tool]], str]
    """The system prompt for a set of tools, where the config has none; empty for none."""
    template_input: Callable[[Sequence[Message], Collection[Tool]], tuple[list[Message], dict[str, Any]]] = (
        plain_template
    )
    """From messages and tools to what the chat template is given: turns, and options such as ``tools``."""
    single_tokens: tuple[str, ...] = ()
    """Texts that have to be single tokens of the model's tokenizer."""
    code_tool: str | None = None
    """The tool whose argument ``code`` is run in the sandbox: the calls that count are those that the code
    makes. None if they are the calls in the response itself."""

    def opening(self, text: str) -> str | None:
        """The name of the spelling that a response opens with, or None."""
        return next((name for name, spelling in self.spellings.items() if text.startswith(spelling)), None)


FORMATS = {
    "code_mode": "punie.formats.code_mode:FORMAT",
}
"""Format name to ``module:attribute``, a :class:`Format`; imported when it is used."""

DEFAULT = "code_mode"
"""Name of the format in use."""


_resolve = functools.cache(resolve_name)


def load(name: str) -> Format:
    """The format of that name."""
    return _resolve(FORMATS[name])


def chosen() -> Format:
    """The format in use. It is chosen here and nowhere else."""
    return load(DEFAULT)
