"""punie's own sources as inputs of a key: those that were edited since it was last decided whether they give
the same results.

``sources.json`` holds the digest of every file that can decide a result, over its *normal form*: the syntax
tree without positions, comments, docstrings and annotations of functions, the same on every version of
Python. A key names the files whose digest is another one now: a released punie has the keys it always had,
and an edited checkout its own.

``python -m punie.store.sources`` records the present sources. Do it when a change gives the same results, and
when a stage's version was raised because it does not.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from punie.store.keys import memory
from punie.util.errors import StoreError
from punie.util.files import write_json

ROOMS = ("data", "evals", "formats", "model", "results", "stages", "train")
"""Folders of the package whose files are recorded."""
RECORD = Path(__file__).with_name("sources.json")
_PACKAGE = Path(__file__).parents[1]
_KINDS = {".py", ".jinja", ".js", ".css"}
_LENGTH = 16
"""Hex digits of a digest."""
_OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sourced(material: dict[str, Any], *places: str) -> dict[str, Any]:
    """The inputs of a key, with the edited files of these places where there are any."""
    found = edited(*places)
    return {**material, "sources": found} if found else material


def edited(*places: str) -> dict[str, str | None]:
    """The files of these places (``formats``, ``model/load.py``) that are not the recorded ones.

    Returns:
        The digest of each file by its name in the package; None for one that is gone.
    """
    recorded, now = _recorded(), present()
    changed = [name for name in {**recorded, **now} if now.get(name) != recorded.get(name)]
    return {name: now.get(name) for name in sorted(changed) if any(_is_in(name, each) for each in places)}


@functools.cache
def present() -> dict[str, str]:
    """The digest of every file that can decide a result, by its name in the package.

    Reading the files takes 16 ms, parsing them a second; so digests are remembered by the bytes.
    """
    found = {}
    with memory() as known:
        for path in _files():
            source = path.read_bytes()
            raw = hashlib.sha256(source).hexdigest()
            if path.suffix != ".py":
                digest = raw[:_LENGTH]
            elif (digest := known.get(f"source|{raw}")) is None:
                digest = known[f"source|{raw}"] = normal_digest(source)
            found[path.relative_to(_PACKAGE).as_posix()] = digest
    return found


def normal_digest(source: bytes) -> str:
    """The digest of a module's normal form; of its bytes where it is no Python."""
    try:
        form = repr(_normal(ast.parse(source))).encode()
    except (SyntaxError, ValueError):
        form = source
    return hashlib.sha256(form).hexdigest()[:_LENGTH]


def record() -> list[str]:
    """Record the present sources; returns the files whose digest was another one."""
    try:
        changed = [*edited(*ROOMS)]
    except StoreError:  # a merge left a conflict in the record
        changed = [*present()]
    write_json(RECORD, present())
    _recorded.cache_clear()
    return changed


def _is_in(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}/")


def _files() -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted(path for path in (_PACKAGE / room).rglob("*") if path.suffix in _KINDS)


@functools.cache
def _recorded() -> dict[str, str]:
    try:
        return json.loads(RECORD.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            "The record of punie's own sources cannot be read.",
            where=RECORD,
            found=error,
            next_step="python -m punie.store.sources, where they give the same results as ever",
        ) from error


def _normal(node: Any) -> Any:
    """A syntax tree as nested lists, without what differs between versions of Python or changes no result."""
    if isinstance(node, list):
        return [_normal(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    found: list[Any] = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, _OWNERS):
            value = [each for each in value if not _is_text(each)]
        annotation = name == "returns" or (name == "annotation" and isinstance(node, ast.arg))
        if value not in (None, []) and not annotation and name not in ("kind", "type_comment"):
            found += [name, _normal(value)]
    return found


def _is_text(statement: ast.AST) -> bool:
    """Whether a statement is a docstring: of a module, class or function, or below a field."""
    constant = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)


if __name__ == "__main__":
    print(*(f"recorded: {name}" for name in record()), sep="\n")
