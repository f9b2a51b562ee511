"""Reads and writes the records; an error names the file and its first problem. Converts older versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from punie.results.records import Evaluation, File, Metric, Results, Sample
from punie.util import jsonl
from punie.util.errors import DataError
from punie.util.files import write_json, write_lines
from punie.util.jsonl import excerpt
from punie.util.plain import is_text, parse_json

F = TypeVar("F", bound=File)


def read(path: Path, kind: type[F]) -> F:
    """A record from its file.

    Raises:
        DataError: The file is missing, is no JSON object, was written by a newer punie, or does not have
            the fields of its kind; the first problem is named.
    """
    try:
        values = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise unreadable(path, kind.KIND, error) from None
    if not isinstance(values, dict):
        raise unreadable(path, kind.KIND, "no JSON object")
    return parse(values, kind, path)


def parse(values: Mapping[str, Any], kind: type[F], path: Path) -> F:
    """A record from JSON values; ``path`` is for errors.

    Raises:
        DataError: As for :func:`read`.
    """
    found = values.get("schema")
    if isinstance(found, int) and found > kind.VERSION:
        raise DataError(
            "The file was written by a newer punie.",
            where=path,
            found=f"schema {found}",
            expected=f"at most schema {kind.VERSION}",
            next_step="update punie, or run the config again: cached stages are reused",
        )
    try:
        return kind.model_validate(_current(values, kind))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise unreadable(path, kind.KIND, error) from None


def write(path: Path, record: File) -> None:
    """Write a record with its schema number; whole or not at all."""
    write_json(path, plain(record))


def plain(record: File) -> dict[str, Any]:
    """A record as JSON values."""
    return record.model_dump(mode="json", by_alias=True)


def read_samples(path: Path) -> list[Sample]:
    """The lines of a samples.jsonl.

    Raises:
        DataError: The file is missing, cannot be read or is empty.
        Problems: Lines are wrong, each with its place.
    """
    found: list[Sample] = []

    def check(values: Mapping[str, Any], where: str) -> Iterator[DataError]:
        try:
            sample = Sample.model_validate(values)
        except ValidationError as error:
            yield DataError("The line is not a record of a response.", where=where, found=problem(error))
            return
        if not is_text(values):
            yield DataError("The line holds half of a surrogate pair, which no text holds.", where=where)
        found.append(sample)

    jsonl.load(
        path,
        check,
        kind="The record of the responses",
        expected="samples.jsonl, as a run writes it, one response a line",
        next_step="take the path that a run prints at its end",
        key=lambda values: f"{values.get('id')}, repeat {values.get('repeat')}",
    )
    return found


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write a samples.jsonl."""
    write_lines(path, [sample.plain() for sample in samples])


def read_metrics(path: Path) -> list[Metric]:
    """The lines of a train.jsonl; none if nothing was trained.

    Raises:
        DataError: A line cannot be read.
    """
    if not path.exists():
        return []
    found = []
    try:
        for line in jsonl.read(path):
            if line.problem is not None:
                raise line.problem
            found.append(Metric.model_validate(line.value))
    except (OSError, ValidationError) as error:
        raise unreadable(path, "the metrics of a training", error) from None
    return found


def problem(error: ValidationError) -> str:
    """The first problem of a validation in a line, and how many more there are."""
    first, *more = error.errors(include_url=False)
    place = ".".join(str(part) for part in first["loc"])
    words = f"{place}: {first['msg']}" if place else first["msg"]
    if first["type"] != "missing" and first["loc"]:
        words += f", found {excerpt(first['input'], 40)}"
    return words + (f"; and {len(more)} more" if more else "")


def unreadable(path: Path, kind: str, found: str | Exception) -> DataError:
    """The error for a file that is not what it should be."""
    if isinstance(found, ValidationError):
        words = problem(found)
    elif isinstance(found, LookupError | TypeError | AttributeError | OverflowError):
        words = f"{type(found).__name__}: {found}"
    else:
        words = (found.strerror if isinstance(found, OSError) else "") or str(found).strip().partition("\n")[
            0
        ]
    return DataError(
        f"{path.name} cannot be read.",
        where=path,
        found=excerpt(words, 300),
        expected=f"{kind}, as punie writes it",
        next_step="take the path that a run prints at its end, or run its config again",
    )


def _current(values: Mapping[str, Any], kind: type[File]) -> dict[str, Any]:
    """The values in the current schema: an older one is converted to the next, until it is."""
    found = {"schema": kind.VERSION, **values}
    while (convert := _CONVERSIONS.get((kind, found["schema"]))) is not None:
        found = convert(found)
    return found


def _evaluation_3(values: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 had the wrapper rate, the taxonomy and what is missing among the scores."""
    scores = dict(values["scores"])
    moved = {name: scores.pop(name) for name in ("wrapper_rate", "taxonomy", "missing")}
    targets = {name: _evaluation_3(each) for name, each in values.get("targets", {}).items()}
    return {**values, **moved, "scores": scores, "schema": 3} | ({"targets": targets} if targets else {})


_CONVERSIONS: dict[tuple[type[File], int], Callable[[dict[str, Any]], dict[str, Any]]] = {
    (Evaluation, 2): _evaluation_3,
    (Results, 2): _evaluation_3,
}
"""By model and schema: what makes the next schema of it."""
