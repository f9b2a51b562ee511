"""BFCL's data as suites: from a wheel, a folder or the installed ``bfcl-eval``, converted once by content."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from punie.store.artifacts import Artifact, Store
from punie.store.keys import SCHEMA, user_cache
from punie.store.sources import sourced
from punie.util import jsonl
from punie.util.errors import DataError, Problems, PunieError, StoreError
from punie.util.files import write_lines

VERSION = 1
PACKAGE = "bfcl-eval"
CATEGORIES = {
    "simple_python": 400,
    "multiple": 200,
    "parallel": 200,
    "parallel_multiple": 200,
    "irrelevance": 240,
    "live_simple": 258,
    "live_multiple": 1053,
    "live_parallel": 16,
    "live_parallel_multiple": 24,
    "live_irrelevance": 884,
    "live_relevance": 16,
}
"""The single-turn categories in Python of BFCL v4, with their numbers of items. Not among them: simple_java
and simple_javascript, whose values are those languages' literals, multi_turn, memory and web_search."""
_NON_LIVE, _LIVE = (
    [name for name in CATEGORIES if "relevance" not in name and name.startswith("live") is live]
    for live in (False, True)
)
_BOTH = ("irrelevance", "live_irrelevance")
AVERAGES = {
    "BFCL: non-live": {name: 1 / len(_NON_LIVE) for name in _NON_LIVE},
    "BFCL: live": {name: CATEGORIES[name] / sum(CATEGORIES[each] for each in _LIVE) for name in _LIVE},
    "BFCL: irrelevance, both": {name: 1 / len(_BOTH) for name in _BOTH},
}
"""The averages of BFCL's leaderboard (``eval_checker/eval_runner_helper.py``), as weights of categories:
non-live ones weigh the same, live ones by their items. There, the non-live simple score has Java and
JavaScript, too, and the total has multi_turn, memory and web_search."""
AVERAGES["BFCL: single turn"] = {
    name: weight / len(AVERAGES) for each in AVERAGES.values() for name, weight in each.items()
}
ALL = "bfcl"
SUITES = {f"bfcl_{name.removesuffix('_python')}": name for name in CATEGORIES}
"""A suite of each category; the suite ``bfcl`` has all."""
_UNANSWERED = ("irrelevance", "live_irrelevance", "live_relevance")
"""Categories without expected calls: none, or any, is right."""
_HINT = " Note that the provided function is in Python 3 syntax."
"""BFCL adds this to each function's description."""
_STAGE = "bfcl"
_LARGEST = 64 * 2**20
"""Bytes of the largest file that is read."""
_INSTALL = f"pip install --no-deps {PACKAGE}, or punie suite import bfcl WHEEL"
_OTHER_VERSION = f"take {PACKAGE} 2026.3.23: pip download --no-deps {PACKAGE}==2026.3.23"


def find(suite: str) -> Path:
    """The file of one of ``SUITES``, or of ``ALL``.

    It is converted from the installed ``bfcl-eval``; without that, it is what was imported last.

    Raises:
        DataError: There is neither, or the installed data cannot be read.
    """
    if (folder := installed()) is not None:
        return convert(folder).path / f"{suite}.jsonl"
    imported = next(_store().artifacts(_STAGE), None)
    if imported is None:
        raise DataError(
            "BFCL's data are not on this machine.", where=f"eval.suite={suite}", next_step=_INSTALL
        )
    return imported.path / f"{suite}.jsonl"


def installed() -> Path | None:
    """The data folder of an installed ``bfcl-eval``, which is not imported; None without one."""
    try:
        folder = Path(str(importlib.metadata.distribution(PACKAGE).locate_file("bfcl_eval/data")))
    except importlib.metadata.PackageNotFoundError:
        return None
    return folder if folder.is_dir() else None


def convert(source: Path) -> Artifact:
    """The suites of a wheel or a folder, in the user's cache: ``bfcl.jsonl`` and one file for each category.

    Raises:
        DataError: There is no such file or folder, or it is not BFCL v4's.
        Problems: What is wrong with its items.
    """
    found = _read(source)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    material = {"schema": SCHEMA, "stage": _STAGE, "version": VERSION, "files": digests}
    material = sourced(material, "evals/bfcl_suites.py")

    def build(out: Path) -> dict[str, Any]:
        write(out, _suites(found, source))
        return {"source": source.name}

    try:
        artifact, _ = _store().get_or_build(_STAGE, material, build)
    except StoreError as error:
        error.next_step = "your cache folder must be writable; or --out FOLDER"
        raise
    os.utime(artifact.path)  # the last one that was imported is the one that is used
    return artifact


def suites(source: Path, *, underscores: bool = False) -> dict[str, list[dict[str, Any]]]:
    """The suites by name, as lines of JSONL.

    Args:
        source: A wheel, or a folder with BFCL's data.
        underscores: Write the dots in names of functions as underscores, as BFCL does for models that cannot
            write dots.

    Raises:
        DataError, Problems: As :func:`convert`.
    """
    return _suites(_read(source), source, underscores=underscores)


def write(folder: Path, found: Mapping[str, list[dict[str, Any]]]) -> None:
    """Write each suite as a file."""
    for name, items in found.items():
        write_lines(folder / f"{name}.jsonl", items)


def _store() -> Store:
    return Store(user_cache())


def _suites(
    files: Mapping[str, bytes], source: Path, *, underscores: bool = False
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    problems: list[PunieError] = []
    for suite, category in SUITES.items():
        name = f"BFCL_v4_{category}.json"
        questions = _lines(files[name], f"{source}/{name}", problems)
        answers: list[dict[str, Any] | None] = [None] * len(questions)
        if category not in _UNANSWERED:
            name = f"possible_answer/{name}"
            answers = [*_lines(files[name], f"{source}/{name}", problems)]
        for number, lines in enumerate((questions, answers)):
            if len(lines) != CATEGORIES[category] and not problems:
                what = "answers" if number else "items"
                raise DataError(
                    f"The file of {what} is cut short, or of another version of BFCL.",
                    where=f"{source}/{name}",
                    found=f"{len(lines)} {what}",
                    expected=f"the {CATEGORIES[category]} of BFCL v4",
                    next_step=_OTHER_VERSION,
                )
        found[suite] = []
        for number, (question, answer) in enumerate(zip(questions, answers, strict=False), 1):
            where = f"{source}/{name}:{number}"
            try:
                found[suite].append(_item(category, question, answer, where, underscores=underscores))
            except PunieError as error:
                problems.append(error)
    if problems:
        more = len(problems) - jsonl.SHOWN
        problems = problems[: jsonl.SHOWN]
        if more > 0:
            problems.append(DataError(f"… and {more:,} more."))
        problems[-1].next_step = _OTHER_VERSION
        raise Problems("BFCL's data cannot be used:", problems)
    return {**found, ALL: [item for items in found.values() for item in items]}


def _item(
    category: str,
    question: Mapping[str, Any],
    answer: Mapping[str, Any] | None,
    where: str,
    *,
    underscores: bool,
) -> dict[str, Any]:
    """One item of a suite."""

    def name(written: str) -> str:
        return written.replace(".", "_") if underscores else written

    turns, functions, identity = question.get("question"), question.get("function"), question.get("id")
    if not isinstance(turns, list) or len(turns) != 1 or not isinstance(identity, str):
        raise _wrong("question", question, '{"id": …, "question": [[…]], "function": […]}', where)
    if not isinstance(functions, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in functions
    ):
        raise _wrong("function", question, "a list of functions", where)
    tools = [
        {**each, "name": name(each["name"]), "description": f"{each.get('description', '')}{_HINT}"}
        for each in functions
    ]
    item = {"id": identity, "category": category, "messages": turns[0], "rules": "bfcl", "tools": tools}
    if answer is None:
        any_tool = [{"tool": each["name"]} for each in tools] if category == "live_relevance" else []
        return {**item, "expect": any_tool}
    calls = answer.get("ground_truth")
    if answer.get("id") != identity:
        raise DataError(
            "The answer is another item's.", where=where, found=answer.get("id"), expected=identity
        )
    if not isinstance(calls, list) or not calls or not all(_is_call(each) for each in calls):
        raise _wrong("ground_truth", answer, "[{FUNCTION: {ARGUMENT: [VALUE, …]}}]", where)
    pairs = [next(iter(each.items())) for each in calls]
    if strange := [tool for tool, _ in pairs if tool not in {each["name"] for each in functions}]:
        raise DataError("The answer calls a function that the item lacks.", where=where, found=strange[0])
    expect = [{"tool": name(tool), "arguments": arguments} for tool, arguments in pairs]
    return {**item, "expect": expect, "match": "all"}


def _is_call(value: object) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    (arguments,) = value.values()
    return isinstance(arguments, dict) and all(isinstance(each, list) for each in arguments.values())


def _wrong(name: str, value: Mapping[str, Any], expected: str, where: str) -> DataError:
    what = f"The field '{name}' is {'wrong' if name in value else 'missing'}."
    found = jsonl.excerpt(value[name]) if name in value else None
    return DataError(what, where=where, found=found, expected=expected)


def _lines(content: bytes, where: str, problems: list[PunieError]) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            found.append(jsonl.parse(line, f"{where}:{number}"))
        except DataError as error:
            problems.append(error)
    return found


def _read(source: Path) -> dict[str, bytes]:
    """The files of all categories by their names below the data folder."""
    try:
        root = _root(source)
        return {name: _content(root, source, name) for name in _names()}
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(
            "BFCL's data cannot be read.", where=source, found=error, next_step=_OTHER_VERSION
        ) from error


def _names() -> Iterator[str]:
    for category in CATEGORIES:
        yield f"BFCL_v4_{category}.json"
        if category not in _UNANSWERED:
            yield f"possible_answer/BFCL_v4_{category}.json"


def _root(source: Path) -> Path | zipfile.Path:
    """The folder of the data within a wheel or a folder."""
    if not source.exists():
        raise DataError("There is no such file or folder.", where=source, next_step=_INSTALL)
    top = source if source.is_dir() else zipfile.Path(source)
    for folder in (top, top / "data", top / "bfcl_eval" / "data"):
        if folder.is_dir() and any(each.name.startswith("BFCL_v") for each in folder.iterdir()):
            return folder
    raise DataError(
        "There are no data of BFCL.",
        where=source,
        expected="a wheel of bfcl-eval, or its folder bfcl_eval/data",
        next_step=_OTHER_VERSION,
    )


def _content(root: Path | zipfile.Path, source: Path, name: str) -> bytes:
    path = root / name
    if not path.is_file():
        there = sorted(each.name for each in root.iterdir())
        raise DataError(
            "BFCL's answers are missing." if "/" in name else "The data are not those of BFCL v4.",
            where=source,
            found=f"no {name}; but {jsonl.excerpt(', '.join(there), 100)}",
            next_step=_OTHER_VERSION,
        )
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise DataError("The file is too large.", where=f"{source}/{name}", expected="at most 64 MiB")
    return content
