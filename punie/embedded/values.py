"""Values for the slots of a phrasing: paths, symbols and commands as a person would write them."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

Drawn = tuple[str, dict[str, object]]
"""A piece of a request and the arguments it stands for; the key ``""`` is the tool's first parameter."""

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


POOLS = {name: _split("\n".join(lines)) for name, lines in sections("values.txt").items()}
"""The everyday names by kind."""


def draws(*key: object) -> random.Random:
    """A generator for one purpose; the key, such as a seed and a split, decides every value drawn from it."""
    return random.Random("/".join(map(str, key)))  # noqa: S311 - nothing here is a secret


class Values:
    """Draws values for slots.

    Args:
        rng: Every value is drawn from it.
        novel: Share of names made of random syllables, 0 to 1, which a model has to copy.
    """

    def __init__(self, rng: random.Random, novel: float = 0.0) -> None:
        self.rng, self.novel = rng, novel

    def draw(self, slot: str) -> Drawn:
        """A value for a slot, as text and as the arguments it stands for."""
        method = getattr(self, _SHARED.get(slot, slot))
        value = method(*_FILES.get(slot, ()))
        if isinstance(value, tuple):
            return value
        if slot not in _NAMED:
            return value, {"": value}
        return self._ticked(value, _TICKS.get(slot, 0.5)), {slot: value}

    def word(self, pool: str) -> str:
        """A word of a pool, or at the rate ``novel`` one that no pool has."""
        if self.rng.random() < self.novel:
            return "".join(self.rng.choice(POOLS["syllables"]) for _ in range(self.rng.randint(1, 3)))
        return self.rng.choice(POOLS[pool])

    def folder(self) -> str:
        """A folder."""
        return self.rng.choice(POOLS["folders"])

    def file(self, folders: str = "folders", stems: str = "stems") -> str:
        """A Python file."""
        return f"{self.rng.choice(POOLS[folders])}/{self.word(stems)}.py"

    def document(self) -> str:
        """A Python file or, one time in four, a text file."""
        return self.rng.choice(POOLS["text_files"]) if self.rng.random() < 0.25 else self.file()

    def path(self) -> str:
        """A Python file or, one time in four, a folder."""
        return f"{self.folder()}/" if self.rng.random() < 0.25 else self.file()

    def tests(self) -> str:
        """A test file or folder."""
        folder = self.rng.choice(("tests", "tests/unit", "tests/integration", "tests/api", "test"))
        return f"{folder}/" if self.rng.random() < 0.25 else f"{folder}/test_{self.word('stems')}.py"

    def symbol(self) -> str:
        """A function or class name of one to three words."""
        kind = self.rng.random()
        if kind < 0.5:
            return f"{self.word('verbs')}_{self.word('nouns')}"
        first = self.word("nouns").capitalize() if kind >= 0.75 else ""
        return first + self.word("classes").capitalize()

    def pattern(self) -> str:
        """A syntax pattern with placeholders such as $X."""
        if self.rng.random() < self.novel:
            return f"{self.rng.choice(('', 'await ', 'return ', 'self.'))}{self.symbol()}($X)"
        return self.rng.choice(POOLS["patterns"])

    def content(self) -> str:
        """A line of text for a file."""
        if self.rng.random() < self.novel:
            joint = self.rng.choice((" = ", ": ", " "))
            return f"{self.word('nouns')}{joint}{self.word('stems')}"
        return self.rng.choice(POOLS["contents"])

    def import_stmt(self) -> str:
        """An import statement."""
        if self.rng.random() < 0.5:
            return f"import {self.word('modules')}"
        module, _, name = self.rng.choice(POOLS["members"]).partition(":")
        if self.rng.random() < self.novel:
            module, name = self.word("modules"), self.symbol()
        return f"from {module} import {name}"

    def module(self) -> Drawn:
        """A module by its bare name."""
        module = self.word("modules")
        return module, {"import_stmt": f"import {module}"}

    def place(self) -> Drawn:
        """A position in a source file: 1-based line and column."""
        file, line, col = self.file(), self.rng.randint(1, 99), self.rng.randint(1, 40)
        text = self.rng.choice(_PLACES).format(f=file, l=line, c=col)
        return text, {"file": file, "line": line, "col": col}

    def count(self) -> Drawn:
        """A number of commits."""
        count = self.rng.choice((2, 3, 4, 5, 6, 7, 8, 12, 15, 20, 25, 30, 50))
        return str(count), {"count": count}

    def command(self) -> Drawn:
        """A command line, split at its spaces."""
        line = self.rng.choice(POOLS["commands"])
        if self.rng.random() < self.novel:
            line = f"{line.split(' ')[0]} {self.word('verbs')}"
        command, *args = line.split(" ")
        return self._ticked(line), {"command": command} | ({"args": args} if args else {})

    def _ticked(self, value: str, share: float = 0.5) -> str:
        return f"`{value}`" if share == 1 or (share and self.rng.random() < share) else value
