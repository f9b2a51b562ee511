"""Requests that need no tool, and requests that only look as if they did, with their answers."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

from punie.embedded.phrasings import Split, draw_task, expand, form_of, framed
from punie.embedded.values import Values
from punie.formats.tools import TOOLS


@cache
def _section(name: str) -> tuple[str, ...]:
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    bodies = dict(re.findall(r"^\[(.+)\]\n((?:[^\[\n].*\n)+)", text, flags=re.MULTILINE))
    return tuple(bodies[name].splitlines())


def _draw(name: str, split: Split, rng: random.Random) -> str:
    pattern = rng.choice(_section(name if split == "train" else f"{name} valid"))
    return rng.choice(expand(pattern))


def _said(text: str, split: Split, rng: random.Random) -> str:
    return framed(text, split, rng, form_of(text))


def draw_direct(split: Split, rng: random.Random) -> tuple[str, str]:
    """A question of general knowledge and its answer."""
    (concept, first), (other, second) = (line.split(": ") for line in rng.sample(_section("concepts"), 2))
    if rng.random() < 0.5:
        return _said(_draw("about", split, rng).format(concept=concept), split, rng), first
    text = _draw("compare", split, rng).format(concept=concept, other=other)
    return _said(text, split, rng), f"{first} {second}"


def draw_lookalike(split: Split, values: Values) -> tuple[str, str]:
    """A request that looks like a tool's and is not, with its answer.

    A question about a tool, an order not to use one, or an order that leaves out what it is about.
    """
    rng = values.rng
    kind, tool = rng.random(), TOOLS[rng.choice(list(TOOLS))]
    if kind < 0.45:
        text = _draw("tools", split, rng).format(tool=tool.name)
        return _said(text, split, rng), f"{tool.description} Name a target and I will call it."
    if kind < 0.8:
        order = draw_task(tool.name, split, values, order=True).text
        text = _draw("not now", split, rng).format(order=order)
        return text[0].upper() + text[1:], "Understood, I will not do that."
    order, answer = _draw("too little", split, rng).split(": ")
    return framed(order, split, rng), answer
