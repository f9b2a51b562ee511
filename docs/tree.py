"""Write the tree of docs/architecture.md: every file of punie/, with the first line of its docstring.

python docs/tree.py     as make docs does
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from punie.util.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architecture.md"
ROOMS = (
    "commands", "embedded", "sweep", "run", "stages", "track", "results", "config",
    "evals", "data", "formats", "train", "model", "store", "util",
)  # fmt: skip
"""From the top down, as pyproject.toml layers them."""
_COLUMN = 30
_WORDS = 8
"""A longer line ends with its first clause."""


def tree() -> str:
    """The lines between ``punie/`` and the end of the code block."""
    return "\n".join(["punie/", *_folder(ROOT / "punie", 1)]) + "\n"


def page() -> str:
    """docs/architecture.md with today's tree."""
    return re.sub(r"(?ms)^punie/\n.*?(?=^```$)", lambda _: tree(), PAGE.read_text("utf-8"), count=1)


def _folder(folder: Path, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"{indent}{path.name}".ljust(_COLUMN) + _first_line(path)
    rooms = sorted(path.parent for path in folder.glob("*/__init__.py"))
    if depth == 1:
        rooms.sort(key=lambda room: ROOMS.index(room.name))
    for room in rooms:
        yield f"{indent}{room.name}/".ljust(_COLUMN) + _first_line(room / "__init__.py")
        yield from _folder(room, depth + 1)


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    line = docstring.partition("\n")[0].rstrip(".")
    clauses = re.split(r"[;:.] | → ", line)
    return clauses[0] if len(line.split()) > _WORDS and len(clauses[0].split()) > 3 else line


if __name__ == "__main__":
    write_text(PAGE, page())
