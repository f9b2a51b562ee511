"""Requests for a tool: patterns in ``phrasings.txt``, expanded into templates whose slots get values.

A pattern such as ``(show|print) {file}`` stands for one template per combination of its alternatives.
Training and validation have patterns of their own, so they share no template.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from punie.formats.tools import TOOLS

Split = Literal["train", "valid"]
Form = Literal["order", "thing", "sentence"]
"""The frames that a text fits into."""
Drawn = tuple[str, dict[str, object]]
"""A piece of a request and the arguments it stands for; the key ``""`` is the tool's first parameter."""

_SLOT = re.compile(r"\{(\w+)\}")
_FILES = {"component": ("component_folders", "component_stems"), "module_file": ("module_folders",)}
"""Slots of files: the pools of their folders and names."""
_SHARED = {
    **dict.fromkeys(("query", "old_name", "new_name"), "symbol"),
    **dict.fromkeys(_FILES, "file"),
    "cwd": "folder",
}
"""Slots filled by a method of another name."""
_NAMED = ("symbol", "query", "old_name", "new_name", "import_stmt", "pattern", "content", "cwd")
"""Slots that are the parameter of their name."""
_TICKS = {"pattern": 1.0, "content": 1.0, "cwd": 0.0}
"""Share of the values of these slots in backticks; half of those of the other named ones."""
_PLACES = ("{f}:{l}:{c}", "line {l}, column {c} of {f}", "{f} line {l} column {c}", "{f}, line {l}, col {c}")


@cache
def sections(file: str) -> dict[str, tuple[str, ...]]:
    """The lines below each ``[heading]`` of a text file beside this one, without comments."""
    found: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / file).read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\[(.+)\]", line):
            lines = found.setdefault(heading[1], [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return {heading: tuple(lines) for heading, lines in found.items()}


def _split(text: str) -> list[str]:
    return re.split(r";\s*" if ";" in text else r"\s+", text)


_POOLS = {name: _split("\n".join(lines)) for name, lines in sections("values.txt").items()}
"""The everyday names by kind."""


def draws(*key: object) -> random.Random:
    """A generator for one purpose; the key, such as a seed and a split, decides every value drawn from it."""
    return random.Random("/".join(map(str, key)))  # noqa: S311 - nothing here is a secret


class Values:
    """Draws values for slots: paths, symbols and commands as a person would write them.

    Each slot has a method of its name, or one that ``_SHARED`` names. ``novel`` is the share of names made of
    random syllables, 0 to 1, which a model has to copy.
    """

    def __init__(self, rng: random.Random, novel: float = 0.0) -> None:
        self.rng, self.novel = rng, novel

    def draw(self, slot: str) -> Drawn:
        """A value for a slot, as text and as the arguments it stands for."""
        method = getattr(self, f"_{_SHARED.get(slot, slot)}")
        value = method(*_FILES.get(slot, ()))
        if isinstance(value, tuple):
            return value
        if slot not in _NAMED:
            return value, {"": value}
        return self._ticked(value, _TICKS.get(slot, 0.5)), {slot: value}

    def _word(self, pool: str) -> str:
        """A word of a pool, or at the rate ``novel`` one that no pool has."""
        if self.rng.random() < self.novel:
            return "".join(self._choice("syllables") for _ in range(self.rng.randint(1, 3)))
        return self._choice(pool)

    def _choice(self, pool: str) -> str:
        return self.rng.choice(_POOLS[pool])

    def _folder(self) -> str:
        return self._choice("folders")

    def _file(self, folders: str = "folders", stems: str = "stems") -> str:
        return f"{self._choice(folders)}/{self._word(stems)}.py"

    def _document(self) -> str:
        return self._choice("text_files") if self.rng.random() < 0.25 else self._file()

    def _path(self) -> str:
        return f"{self._folder()}/" if self.rng.random() < 0.25 else self._file()

    def _tests(self) -> str:
        folder = self.rng.choice(("tests", "tests/unit", "tests/integration", "tests/api", "test"))
        return f"{folder}/" if self.rng.random() < 0.25 else f"{folder}/test_{self._word('stems')}.py"

    def _symbol(self) -> str:
        """A function or class name of one to three words."""
        kind = self.rng.random()
        if kind < 0.5:
            return f"{self._word('verbs')}_{self._word('nouns')}"
        first = self._word("nouns").capitalize() if kind >= 0.75 else ""
        return first + self._word("classes").capitalize()

    def _pattern(self) -> str:
        """A syntax pattern with placeholders such as $X."""
        if self.rng.random() < self.novel:
            return f"{self.rng.choice(('', 'await ', 'return ', 'self.'))}{self._symbol()}($X)"
        return self._choice("patterns")

    def _content(self) -> str:
        """A line of text for a file."""
        if self.rng.random() < self.novel:
            joint = self.rng.choice((" = ", ": ", " "))
            return f"{self._word('nouns')}{joint}{self._word('stems')}"
        return self._choice("contents")

    def _import_stmt(self) -> str:
        if self.rng.random() < 0.5:
            return f"import {self._word('modules')}"
        module, _, name = self._choice("members").partition(":")
        if self.rng.random() < self.novel:
            module, name = self._word("modules"), self._symbol()
        return f"from {module} import {name}"

    def _module(self) -> Drawn:
        module = self._word("modules")
        return module, {"import_stmt": f"import {module}"}

    def _place(self) -> Drawn:
        """A position in a source file: 1-based line and column."""
        file, line, col = self._file(), self.rng.randint(1, 99), self.rng.randint(1, 40)
        text = self.rng.choice(_PLACES).format(f=file, l=line, c=col)
        return text, {"file": file, "line": line, "col": col}

    def _count(self) -> Drawn:
        count = self.rng.choice((2, 3, 4, 5, 6, 7, 8, 12, 15, 20, 25, 30, 50))
        return str(count), {"count": count}

    def _command(self) -> Drawn:
        """A command line, split at its spaces."""
        line = self._choice("commands")
        if self.rng.random() < self.novel:
            line = f"{line.split(' ')[0]} {self._word('verbs')}"
        command, *args = line.split(" ")
        return self._ticked(line), {"command": command} | ({"args": args} if args else {})

    def _ticked(self, value: str, share: float = 0.5) -> str:
        return f"`{value}`" if share == 1 or (share and self.rng.random() < share) else value


@dataclass(frozen=True)
class Task:
    """A request for one tool, and the call that answers it."""

    tool: str
    text: str
    """The request, without a frame. A template's text still has slots: ``show me {file}``."""
    arguments: Mapping[str, object]
    """By parameter name, in the order of the tool's parameters; a template's are those its words imply."""
    form: Form


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

    With ``order``, the patterns are orders only.
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
