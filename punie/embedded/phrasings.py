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

from punie.embedded.values import Values
from punie.formats.tools import TOOLS

Split = Literal["train", "valid"]

Form = Literal["order", "thing", "sentence"]

FRAMES: dict[Split, dict[Form, tuple[str, ...]]] = {
    "train": {
        "order": (
            *("{}", "{}", "{}", "{}.", "please {}", "please {}.", "{}, please.", "{} please"),
            *("can you {}?", "could you {}?", "can you please {}?", "hi, can you {}?", "hey, {}", "ok, {}"),
            *("I want you to {}.", "I need you to {}.", "I would like you to {}.", "go ahead and {}."),
            *("now {}.", "next, {}.", "help me: {}."),
        ),
        "thing": (
            *("{}", "{}", "please, {}", "I want {}.", "I need {}.", "I would like {}."),
            *("may I have {}?", "I am looking for {}.", "I care about {}.", "next: {}", "so, {}?"),
        ),
        "sentence": ("{}",),
    },
    "valid": {
        "order": (
            *("kindly {}.", "would you mind if I asked you to {}?"),
            *("your next job: {}.", "do me a favour and {}."),
        ),
        "thing": (),
        "sentence": ("{}",),
    },
}
"""What a request is put into; "{}" is the request."""

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
    form: Form = "order"
    """Which frames it fits into; a sentence fits into none."""


@dataclass(frozen=True)
class Task:
    """A template with its slots filled: what was said and what is to be called."""

    tool: str
    """The tool to call."""
    text: str
    """The request, not yet in a frame."""
    arguments: dict[str, object]
    """By parameter name, in the order of the tool's parameters; defaults are left out."""
    form: Form = "order"
    """Which frames the text fits into."""


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
    texts = expand(text.removeprefix("~ "))
    form: Form = "thing" if text.startswith("~ ") else form_of(texts[0])
    return [Template(tool, each, arguments, form) for each in dict.fromkeys(texts)]


def form_of(text: str) -> Form:
    """An order starts in lower case and goes on open-ended; anything else is a sentence."""
    return "sentence" if text[0].isupper() or text.endswith(("?", ".")) else "order"


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
    return Task(template.tool, text, arguments, template.form)


def draw_task(tool: str, split: Split, values: Values, *, order: bool = False) -> Task:
    """A request for a tool: first a pattern is drawn, then one of its templates, then the values.

    Args:
        tool: The tool to ask for.
        split: Whose patterns to use.
        values: Where the values come from.
        order: Take orders only.
    """
    groups = [group for group in templates(tool, split) if group[0].form == "order" or not order]
    return fill(values.rng.choice(values.rng.choice(groups)), values)


def framed(text: str, split: Split, rng: random.Random, form: Form = "order") -> str:
    """A request as one might say it: bare, with a please, or as a question; capitalised at most times."""
    text = rng.choice(FRAMES[split][form]).format(text)
    return text if rng.random() < 0.3 else text[0].upper() + text[1:]


def asked(task: Task, split: Split, rng: random.Random) -> str:
    """A task's text in a frame that it fits into."""
    return framed(task.text, split, rng, task.form)
