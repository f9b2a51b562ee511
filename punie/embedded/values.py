"""What fills the slots of a phrasing: paths, symbols, commands, as a person would write them.

A slot draws a piece of prompt text and the arguments it stands for. Every draw comes from the generator
that is passed in, so that a data set is a function of its seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

Drawn = tuple[str, dict[str, object]]
"""A piece of text and the arguments it stands for; the key ``""`` is the tool's first parameter."""


def _pools() -> dict[str, list[str]]:
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    bodies = dict(re.findall(r"^\[(.+)\]\n((?:[^\[\n].*\n)+)", text, flags=re.MULTILINE))
    return {name: re.split(r";\s*" if ";" in body else r"\s+", body.strip()) for name, body in bodies.items()}


POOLS = _pools()
"""The everyday names by kind, from ``values.txt``."""


def draws(*key: object) -> random.Random:
    """A generator of its own for one purpose; the key, such as a seed and a split, decides every draw."""
    return random.Random("/".join(map(str, key)))  # noqa: S311 - nothing here is a secret


class Values:
    """Draws values for slots.

    Args:
        rng: Where every draw comes from.
        novel: Share of names made of random syllables instead of everyday words, 0 to 1: a model that
            meets them has to copy, it cannot remember.
    """

    def __init__(self, rng: random.Random, novel: float = 0.0) -> None:
        self.rng, self.novel = rng, novel
        self._slots: dict[str, Callable[[], Drawn]] = {
            "file": lambda: self._first(self.file()),
            "document": lambda: self._first(self.document()),
            "path": lambda: self._first(self.path()),
            "folder": lambda: self._first(self.rng.choice(POOLS["folders"])),
            "tests": lambda: self._first(self.tests()),
            "component": lambda: self._first(self._under("component_folders", "component_stems")),
            "module_file": lambda: self._first(self._under("module_folders", "stems")),
            "place": self.place,
            "symbol": lambda: self._named("symbol", self.symbol()),
            "query": lambda: self._named("query", self.symbol()),
            "old_name": lambda: self._named("old_name", self.symbol()),
            "new_name": lambda: self._named("new_name", self.symbol()),
            "pattern": lambda: self._named("pattern", self.pattern(), always=True),
            "count": self.count,
            "cwd": lambda: (folder := self.rng.choice(POOLS["folders"]), {"cwd": folder}),
            "command": self.command,
            "content": lambda: self._named("content", self.content(), always=True),
            "import": self.import_,
            "module": self.module,
        }  # fmt: skip

    def draw(self, slot: str) -> Drawn:
        """A value for a slot, as text and as the arguments it stands for."""
        return self._slots[slot]()

    def word(self, pool: str) -> str:
        """A word of a pool, or at the rate ``novel`` one that no pool has."""
        if self.rng.random() < self.novel:
            return "".join(self.rng.choice(POOLS["syllables"]) for _ in range(self.rng.randint(1, 3)))
        return self.rng.choice(POOLS[pool])

    def file(self) -> str:
        """A Python file."""
        return self._under("folders", "stems")

    def document(self) -> str:
        """A Python file or, one time in four, a text file."""
        return self.rng.choice(POOLS["text_files"]) if self.rng.random() < 0.25 else self.file()

    def path(self) -> str:
        """A Python file or, one time in four, a folder."""
        return f"{self.rng.choice(POOLS['folders'])}/" if self.rng.random() < 0.25 else self.file()

    def tests(self) -> str:
        """A test file or folder."""
        folder = self.rng.choice(("tests", "tests/unit", "tests/integration", "tests/api", "test"))
        return f"{folder}/" if self.rng.random() < 0.25 else f"{folder}/test_{self.word('stems')}.py"

    def symbol(self) -> str:
        """A function or class name of one to three words."""
        kind = self.rng.random()
        if kind < 0.5:
            return f"{self.word('verbs')}_{self.word('nouns')}"
        if kind < 0.75:
            return self.word("classes").capitalize()
        return self.word("nouns").capitalize() + self.word("classes").capitalize()

    def place(self) -> Drawn:
        """A position in a source file: 1-based line and column."""
        file, line, col = self.file(), self.rng.randint(1, 99), self.rng.randint(1, 40)
        form = self.rng.choice(
            (
                "{f}:{l}:{c}",
                "line {l}, column {c} of {f}",
                "{f} line {l} column {c}",
                "{f}, line {l}, col {c}",
            )
        )
        return form.format(f=file, l=line, c=col), {"file": file, "line": line, "col": col}

    def count(self) -> Drawn:
        """How many commits."""
        count = self.rng.choice((2, 3, 4, 5, 6, 7, 8, 12, 15, 20, 25, 30, 50))
        return str(count), {"count": count}

    def command(self) -> Drawn:
        """A command line, split at its spaces."""
        line = self.rng.choice(POOLS["commands"])
        if self.rng.random() < self.novel:
            line = f"{line.split(' ')[0]} {self.word('verbs')}"
        command, *args = line.split(" ")
        return self._quoted(line), {"command": command} | ({"args": args} if args else {})

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

    def import_(self) -> Drawn:
        """An import statement."""
        if self.rng.random() < 0.5:
            statement = f"import {self.word('modules')}"
        else:
            module, _, name = self.rng.choice(POOLS["members"]).partition(":")
            if self.rng.random() < self.novel:
                module, name = self.word("modules"), self.symbol()
            statement = f"from {module} import {name}"
        return self._named("import_stmt", statement)

    def module(self) -> Drawn:
        """A module by its bare name."""
        module = self.word("modules")
        return module, {"import_stmt": f"import {module}"}

    def _under(self, folders: str, stems: str) -> str:
        return f"{self.rng.choice(POOLS[folders])}/{self.word(stems)}.py"

    def _first(self, value: str) -> Drawn:
        return value, {"": value}

    def _named(self, name: str, value: str, *, always: bool = False) -> Drawn:
        return self._quoted(value, always), {name: value}

    def _quoted(self, value: str, always: bool = False) -> str:
        return f"`{value}`" if always or self.rng.random() < 0.5 else value
