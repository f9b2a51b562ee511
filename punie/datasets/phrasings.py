"""How people ask for a tool: patterns in ``phrasings.txt``, expanded into templates.

A pattern such as ``(show|print) {file}`` stands for a set of templates, one for each way through its
alternatives. Patterns are split between training and validation as a whole, so the two share no template.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from punie.datasets.values import Values
from punie.tools.registry import TOOLS

Split = Literal["train", "valid"]

FRAMES: dict[Split, tuple[str, ...]] = {
    "train": (
        *("{}", "{}", "{}", "{}.", "please {}", "please {}.", "{}, please.", "{} please"),
        *("can you {}?", "could you {}?", "can you please {}?", "hi, can you {}?", "hey, {}", "ok, {}"),
        *("I want you to {}.", "I need you to {}.", "I would like you to {}.", "go ahead and {}."),
        *("now {}.", "next, {}.", "help me: {}."),
    ),
    "valid": (
        *("kindly {}.", "would you mind if I asked you to {}?"),
        *("your next job: {}.", "do me a favour and {}."),
    ),
}
"""What an order is put into; "{}" is the order."""

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """A way to ask for one tool."""

    tool: str
    """The tool it asks for."""
    text: str
    """With slots still in it: ``show me {file}``."""
    arguments: tuple[tuple[str, object], ...] = ()
    """Arguments that its words imply."""

    @property
    def is_order(self) -> bool:
        """Whether it fits into a frame; the others are whole sentences."""
        return not (self.text[0].isupper() or self.text.endswith(("?", ".")))


@dataclass(frozen=True)
class Task:
    """A template with its slots filled: what was said and what is to be called."""

    tool: str
    """The tool to call."""
    text: str
    """The request, or the order to put into a frame."""
    arguments: dict[str, object]
    """By parameter name, in the order of the tool's parameters; defaults are left out."""
    is_order: bool = True
    """Whether ``text`` fits into a frame."""


@cache
def patterns(split: Split) -> dict[str, tuple[str, ...]]:
    """The patterns of one split by tool, as they stand in the file."""
    found: dict[str, list[str]] = {name: [] for name in TOOLS}
    into: list[str] = []
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\[(\w+)( valid)?\]", line):
            into = found[heading[1]] if bool(heading[2]) == (split == "valid") else []
        elif line and not line.startswith("#"):
            into.append(line)
    return {name: tuple(lines) for name, lines in found.items()}


@cache
def templates(tool: str, split: Split) -> tuple[tuple[Template, ...], ...]:
    """Every template of a tool, grouped by the pattern it comes from."""
    return tuple(tuple(_expanded(tool, pattern)) for pattern in patterns(split)[tool])


def _expanded(tool: str, pattern: str) -> list[Template]:
    text, _, implied = pattern.partition(" => ")
    name, _, value = implied.partition("=")
    arguments = ((name, value == "True"),) if implied else ()
    return [Template(tool, each, arguments) for each in dict.fromkeys(expand(text))]


def expand(pattern: str) -> list[str]:
    """Every text a pattern stands for, in the order of its alternatives."""
    if not (group := re.search(r"\(([^()]*)\)", pattern)):
        return [pattern]
    head, tail = pattern[: group.start()], pattern[group.end() :]
    return [each for option in group[1].split("|") for each in expand(head + option + tail)]


def fill(template: Template, values: Values) -> Task:
    """A template with a value drawn for each slot."""
    drawn: dict[str, object] = dict(template.arguments)
    first = TOOLS[template.tool].parameters[0].name

    def value(slot: re.Match[str]) -> str:
        text, arguments = values.draw(slot[1])
        drawn.update({name or first: each for name, each in arguments.items()})
        return text

    text = _SLOT.sub(value, template.text)
    arguments = {p.name: drawn[p.name] for p in TOOLS[template.tool].parameters if p.name in drawn}
    return Task(template.tool, text, arguments, template.is_order)


def draw_task(tool: str, split: Split, values: Values, *, order: bool = False) -> Task:
    """A request for a tool: first a pattern is drawn, then one of its templates, then the values.

    Args:
        tool: The tool to ask for.
        split: Whose patterns to use.
        values: Where the values come from.
        order: Only take templates that fit into a frame.
    """
    groups = [group for group in templates(tool, split) if group[0].is_order or not order]
    return fill(values.rng.choice(values.rng.choice(groups)), values)


def framed(order: str, split: Split, rng: random.Random) -> str:
    """An order as one might say it: bare, with a please, or as a question; capitalised at times."""
    text = rng.choice(FRAMES[split]).format(order)
    return text if rng.random() < 0.3 else text[0].upper() + text[1:]
