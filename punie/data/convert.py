"""Data sets as JSON Lines: read once, kept by content, and from there on like any folder of JSON Lines."""

from __future__ import annotations

import errno
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from punie.data import TRAIN, VALID, hub
from punie.data.load import ROW_KEYS
from punie.store.artifacts import Artifact, Store
from punie.store.keys import SCHEMA, content_digests, user_cache
from punie.store.sources import sourced
from punie.util import jsonl
from punie.util.errors import DataError, PunieError, StoreError
from punie.util.plain import parse_json
from punie.util.progress import Reporter

VERSION = 1
_VALIDATION = ("validation", "valid", "val", "dev")
"""Names of the validation split where data.valid_split names none."""
_ABSENT = ("tools", "arguments", "function_call")
"""Parts of a row in which null and absent may differ in meaning."""
_TIMES = ("timestamp", "date", "time", "duration", "decimal")
"""Arrow's types of columns that are left out if nothing reads them."""
_BATCH = 1000
"""Rows that are taken from a Parquet file at a time."""
_KEPT = ("properties", "arguments")
"""Objects that may be empty."""


def convert(
    path: Path, train: str | None = None, valid: str | None = None, config: str | None = None
) -> Artifact:
    """A file or a folder of Parquet or JSON files as ``train.jsonl`` and, if it has one, ``valid.jsonl``.

    The manifest's ``info`` says of each file which split it is, its rows, and what was left out.

    Args:
        path: The file or folder.
        train: The training split; ``train`` if None. It may be a part (``train[5%:]``) or a sum of splits.
        valid: The validation split, alike; if None, the one that is called so.
        config: One of those that the folder's card declares.

    Raises:
        DataError: It cannot be read, has no such split, or holds values that an example cannot hold.
        PunieError: The package ``datasets`` is not installed.
    """
    files = [path] if path.is_file() else [each for each in path.rglob("*") if _counts(each)]
    digests: dict[str, str] = {}
    for folder in sorted({each.parent for each in files}):
        found = content_digests(each for each in files if each.parent == folder)
        digests |= {str((folder / name).relative_to(path.parent)): sha for name, sha in found.items()}
    names = {name.partition("/")[2] or name: sha for name, sha in digests.items()}
    return _convert({"files": names}, str(path), lambda: path, train, valid, config)


def convert_repo(
    repo: str, revision: str, train: str | None = None, valid: str | None = None, config: str | None = None
) -> Artifact:
    """A data set of the hub that is on this machine, as :func:`convert` does it.

    Raises:
        DataError: As there.
        NotCached: It has to be downloaded.
    """
    found = hub.commit(repo, revision)
    return _convert(
        {"repo": repo, "commit": found},
        f"{repo} at {found[:12]}",
        lambda: hub.snapshot(repo, revision, config),
        train,
        valid,
        config,
    )


def notes(info: Mapping[str, Any], name: str | None) -> Iterator[str]:
    """What a conversion assumed and left out, by what the manifest records; ``name`` is the data set's."""
    for file, each in info["splits"].items():
        first = f"; line 1 is row {each['first']:,}" if each["first"] > 1 else ""
        yield f"{file} is the split {each['split']} of {name}{first}"
        if each["nulls"]:
            what = "null in tools or arguments is read as absent: Parquet does not tell the two apart"
            yield f"{file}: {each['nulls']:,} examples: {what}"
        for column, kind in each["left_out"].items():
            yield f"{file}: the column '{column}' ({kind}) is left out: nothing reads it"


def _counts(path: Path) -> bool:
    """Whether a file of a folder can decide what is read."""
    return (path.suffix in hub.KINDS or path.name == hub.CARD) and path.is_file()


def _convert(
    source: dict[str, Any],
    where: str,
    find: Callable[[], Path],
    train: str | None,
    valid: str | None,
    config: str | None,
) -> Artifact:
    asked = {"train": train, "valid": valid, "config": config}
    material = {"schema": SCHEMA, "stage": "rows", "version": VERSION, "source": source, **asked}
    material = sourced(material, "data/convert.py", "data/hub.py")

    def build(out: Path) -> dict[str, Any]:
        hub.library()
        try:
            found = {name: _Split(files, where) for name, files in hub.splits(find(), config).items()}
            parts = {TRAIN: _part(found, train or "train", "data.train_split")}
            named = valid or next((name for name in _VALIDATION if name in found), None)
            if named is not None:
                parts[VALID] = _part(found, named, "data.valid_split")
                _require_apart(parts[TRAIN], parts[VALID])
            written = {name: _write(out / name, part, where) for name, part in parts.items()}
        except PunieError:
            raise
        except Exception as error:  # of files that may hold anything, by the libraries that parse them
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            words = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                "The data set cannot be read.", where=where, found=jsonl.excerpt(words, 200)
            ) from error
        return {"source": {**source, "config": config}, "available": list(found), "splits": written}

    store = Store(user_cache())
    try:
        return store.get_or_build("rows", material, build)[0]
    except StoreError as error:
        error.next_step = "your cache folder must be writable, with space for the rows as JSON Lines"
        raise


@dataclass
class _Split:
    """The rows of one split."""

    files: list[Path]
    where: str
    left_out: dict[str, str] = field(default_factory=dict)
    """Columns that nothing reads and JSON has no values for, with their types."""

    @cached_property
    def kind(self) -> str:
        """The ending of its files."""
        kinds = sorted({file.suffix for file in self.files})
        if len(kinds) > 1:
            raise DataError(
                "A split has files of several kinds.",
                where=self.where,
                found=jsonl.excerpt(", ".join(file.name for file in self.files), 200),
                next_step="keep one kind in the folder, or name one file: data.path=FILE",
            )
        return kinds[0]

    @cached_property
    def parsed(self) -> list[dict[str, Any]]:
        """The rows of files that are not Parquet."""
        return [row for file in self.files for row in _json(file)]

    @cached_property
    def rows(self) -> int:
        """Number of its rows."""
        if self.kind != ".parquet":
            return len(self.parsed)
        from pyarrow import parquet

        return sum(int(parquet.read_metadata(file).num_rows) for file in self.files)

    def read(self, start: int, stop: int, nulls: Counter[str]) -> Iterator[dict[str, Any]]:
        """The rows of a part. Fields of a Parquet file that are null are left out; see :func:`_present`."""
        if self.kind != ".parquet":
            yield from self.parsed[start:stop]
            return
        tables = (pair for file in self.files for pair in self._table(file))
        for row, kind in islice(tables, start, stop):
            before = nulls["fields"]
            found = _present(row, nulls)
            nulls["rows"] += nulls["fields"] > before
            yield _decoded(found, kind)

    def _table(self, path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
        """The rows of a Parquet file as they are, each with the type of all."""
        from pyarrow import parquet, struct

        with parquet.ParquetFile(path) as file:
            kind = struct(list(file.schema_arrow))
            odd = _odd_columns(kind, self.where)
            self.left_out |= odd
            for batch in file.iter_batches(_BATCH):
                for row in batch.drop_columns([*odd]).to_pylist(maps_as_pydicts="strict"):
                    yield row, kind


def _json(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON file: of one list, or a row a line."""
    if path.suffix == ".json":
        try:
            value = parse_json(path.read_bytes())
        except ValueError:
            value = None
        if isinstance(value, list):
            if odd := next((at for at, row in enumerate(value, 1) if not isinstance(row, dict)), None):
                found = jsonl.excerpt(value[odd - 1])
                raise DataError("A row is not an object.", where=f"{path}, row {odd}", found=found)
            return value
    lines = jsonl.load(
        path,
        lambda value, where: iter(()),
        kind="The file",
        expected="a list of objects, or one object a line",
        next_step="correct these lines",
    )
    return [line.value for line in lines]


@dataclass(frozen=True)
class _Part:
    """Ranges of rows that make up what is asked for."""

    spec: str
    """As it was asked for, such as ``train[:5%]``."""
    ranges: list[tuple[str, _Split, int, int]]
    """Name of the split, the split, its first row, and the one after its last; from 0."""


def _part(found: Mapping[str, _Split], spec: str, key: str) -> _Part:
    known = {name: found[name].rows for name in found if name in re.split(r"[+\[]", spec)}
    try:
        parts = hub.library().ReadInstruction.from_spec(spec).to_absolute(known)
    except (ValueError, AssertionError, KeyError) as error:
        raise DataError(
            f"The data set has no split '{spec}'.",
            where=f"{key}={spec}",
            found=f"the splits {', '.join(found)}",
            expected=f"one of these, or a part of one, such as {next(iter(found))}[:90%]",
        ) from error
    return _Part(spec, [(each.splitname, found[each.splitname], each.from_, each.to) for each in parts])


def _require_apart(train: _Part, valid: _Part) -> None:
    """Refuse splits that share rows."""
    for name, _, start, stop in train.ranges:
        for other, _, first, last in valid.ranges:
            if name == other and max(start, first) < min(stop, last):
                raise DataError(
                    "The training and the validation split share rows.",
                    where=f"data.train_split={train.spec}, data.valid_split={valid.spec}",
                    found=f"rows {max(start, first) + 1:,} to {min(stop, last):,} of {name} in both",
                    next_step=split_hint(name),
                )


def split_hint(name: str) -> str:
    """How to take the last twentieth of a split for validation, as arguments for a shell."""
    return f"""'data.train_split="{name}[:95%]"' 'data.valid_split="{name}[95%:]"'"""


def _write(path: Path, part: _Part, where: str) -> dict[str, Any]:
    """Write the rows of a part, one a line; returns what is recorded of them."""
    total, done, nulls = sum(stop - start for *_, start, stop in part.ranges), 0, Counter[str]()
    reporter = Reporter()
    reporter.line(f"  reading {where}: {part.spec}, {total:,} rows ...")
    with path.open("w", encoding="utf-8", newline="\n") as out, reporter.bar("reading", total, "rows") as bar:
        for name, split, start, stop in part.ranges:
            for number, row in enumerate(split.read(start, stop, nulls), start + 1):
                try:
                    out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
                except (ValueError, TypeError) as error:  # nan, inf; half of a surrogate pair
                    found = jsonl.excerpt(str(error), 200)
                    raise DataError(
                        "The row cannot be written as JSON.",
                        where=f"{where}, row {number} of {name}",
                        found=found,
                    ) from error
                done += 1
                bar(done)
    left_out = {column: kind for _, split, *_ in part.ranges for column, kind in split.left_out.items()}
    first = part.ranges[0][2] + 1 if part.ranges else 1
    return {"split": part.spec, "first": first, "rows": done, "nulls": nulls["rows"], "left_out": left_out}


def _present(row: Mapping[str, Any], nulls: Counter[str]) -> dict[str, Any]:
    """A row without the fields that a Parquet file has only because other rows have them.

    All objects of a column have the same fields there, and those that were absent are null. The content of
    a turn stays null. What is dropped within tools and arguments is counted, because a null may be meant.
    """

    def without(value: Any, key: str, inside: bool) -> Any:
        if isinstance(value, list):
            return [without(each, key, inside) for each in value]
        if not isinstance(value, dict):
            return value
        found = {}
        for name, inner in value.items():
            kept = None if inner is None else without(inner, name, inside or name in _ABSENT)
            if kept is not None or (name == "content" and key in ("messages", "prompt", "completion")):
                found[name] = kept
            else:
                nulls["fields"] += inside
        return None if value and not found and inside and key not in _KEPT else found

    return without(dict(row), "", False) or {}


def _decoded(value: Any, kind: Any) -> Any:
    """A value of a Parquet file, where columns of type JSON hold text."""
    import pyarrow as pa

    if isinstance(kind, pa.JsonType):
        return parse_json(value)
    if pa.types.is_struct(kind) and "arrow.json" in str(kind):
        return {name: _decoded(inner, kind.field(name).type) for name, inner in value.items()}
    if pa.types.is_map(kind):
        return {name: _decoded(inner, kind.item_type) for name, inner in value.items()}
    return [_decoded(each, kind.value_type) for each in value] if isinstance(value, list) else value


def _odd_columns(table: Any, where: str) -> dict[str, str]:
    """Columns that nothing reads and whose values JSON does not have, with their types.

    Raises:
        DataError: Examples would lack what such a column holds: it is read, or is a picture, a sound, bytes.
    """
    found = {column.name: str(kind) for column in table.fields if (kind := _odd(column.type))}
    refused = {name: kind for name, kind in found.items() if name in ROW_KEYS or not kind.startswith(_TIMES)}
    if refused:
        raise DataError(
            "The data set holds values that are neither text, numbers, lists nor objects.",
            where=where,
            found=", ".join(f"{name}: {kind}" for name, kind in refused.items()),
            next_step="convert these columns to text, or remove them",
        )
    return found


def _odd(kind: Any) -> Any:
    """The type within an Arrow type that JSON has no values for; None if it has."""
    import pyarrow as pa

    of = pa.types
    if of.is_struct(kind):
        return next((odd for column in kind.fields if (odd := _odd(column.type))), None)
    if of.is_map(kind):
        return _odd(kind.item_type) if of.is_string(kind.key_type) else kind
    if of.is_nested(kind) and hasattr(kind, "value_type"):
        return _odd(kind.value_type)
    if of.is_dictionary(kind):
        return _odd(kind.value_type)
    plain = (of.is_string, of.is_large_string, of.is_string_view, of.is_boolean, of.is_null)
    plain = (*plain, of.is_integer, of.is_floating, lambda each: isinstance(each, pa.JsonType))
    return None if any(holds(kind) for holds in plain) else kind
