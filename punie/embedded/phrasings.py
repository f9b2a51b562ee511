"""Requests for a tool: patterns in ``phrasings.txt``, expanded into templates.

A pattern such as ``(show|print) {file}`` stands for one template per combination of its alternatives.
Training and validation have patterns of their own, so they share no template.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from punie.embedded.values import Values, sections
from punie.formats.tools import TOOLS

Split = Literal["train", "valid"]
Form = Literal["order", "thing", "sentence"]
"""The frames that a text fits into."""

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Task:
    """A request for one tool, and the call that answers it."""

    tool: str
    """The tool to call."""
    text: str
    """The request, without a frame. A template's text still has slots: ``show me {file}``."""
    arguments: Mapping[str, object]
    """By parameter name, in the order of the tool's parameters; a template's are those its words imply."""
    form: Form
    """Which frames the text fits into."""


def lines(name: str, split: Split) -> tuple[str, ...]:
    """The patterns of a tool, or the lines of another section, for a split."""
    return sections("phrasings.txt")[name if split == "train" else f"{name} valid"]


@cache
def templates(tool: str, split: Split) -> tuple[tuple[Task, ...], ...]:
    """Every template of a tool, grouped by pattern."""
    return tuple(tuple(_expanded(tool, pattern)) for pattern in lines(tool, split))


def _expanded(tool: str, pattern: str) -> list[Task]:
    text, _, implied = pattern.partition(" => ")
    name, _, value = implied.partition("=")
    texts = expand(text.removeprefix("~ "))
    form: Form = "thing" if text.startswith("~ ") else form_of(texts[0])
    arguments = {name: value == "True"} if implied else {}
    return [Task(tool, each, arguments, form) for each in dict.fromkeys(texts)]


def form_of(text: str) -> Form:
    """The form of a text: a sentence starts with a capital or ends like one, anything else is an order."""
    return "sentence" if text[0].isupper() or text.endswith(("?", ".")) else "order"


def expand(pattern: str) -> list[str]:
    """Every text that a pattern stands for, in the order of its alternatives."""
    if not (group := re.search(r"\(([^()]*)\)", pattern)):
        return [pattern]
    head, tail = pattern[: group.start()], pattern[group.end() :]
    return [each for option in group[1].split("|") for each in expand(head + option + tail)]


def draw_task(tool: str, split: Split, values: Values, *, order: bool = False) -> Task:
    """A request for a tool: draws a pattern, then one of its templates, then a value for each slot.

    Args:
        tool: The tool to ask for.
        split: Whose patterns to use.
        values: Draws the values.
        order: Take orders only.
    """
    groups = [group for group in templates(tool, split) if group[0].form == "order" or not order]
    template = values.rng.choice(values.rng.choice(groups))
    parameters = [parameter.name for parameter in TOOLS[tool].parameters]
    drawn = dict(template.arguments)

    def value(slot: re.Match[str]) -> str:
        text, arguments = values.draw(slot[1])
        drawn.update({name or parameters[0]: each for name, each in arguments.items()})
        return text

    text = _SLOT.sub(value, template.text)
    return Task(tool, text, {name: drawn[name] for name in parameters if name in drawn}, template.form)


def framed(text: str, split: Split, rng: random.Random, form: Form = "order") -> str:
    """A request in a frame, such as "can you ...?", most times with a capital first letter."""
    text = rng.choice(lines(f"frames {form}", split)).format(text)
    return text if rng.random() < 0.3 else text[0].upper() + text[1:]


def asked(task: Task, split: Split, rng: random.Random) -> str:
    """A task's text in a frame that it fits into."""
    return framed(task.text, split, rng, task.form)
