"""The axes of a set of runs: the config fields whose values differ."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.config.fields import find_field, schema_fields
from punie.results.config import SAMPLING_SEED, SEED, TEMPERATURE, RunConfig
from punie.results.records import Named
from punie.results.summary.collect import RunScores
from punie.store.keys import SHORT
from punie.util.errors import PunieError

LAST = (SEED, SAMPLING_SEED, TEMPERATURE)
"""The last axes, which make no recipe."""
_NAMED = ("model.name", "data.name", "eval.suite")
"""Neutral fields that are axes all the same: they name contents that decide the result."""


@dataclass(frozen=True)
class Axis:
    """A config field that differs among the runs."""

    key: str
    also: tuple[str, ...]
    """Fields that change together with it, so that they cannot be told apart."""
    values: tuple[Any, ...]
    """Sorted."""


def find(configs: Iterable[RunConfig | None]) -> list[Axis]:
    """The axes of some configs, seeds and temperature last; a None has no value on them."""
    known = [config for config in configs if config]
    axes: dict[tuple[int, ...], list[str]] = {}
    for key in _keys():
        numbers: dict[Any, int] = {}
        pattern = tuple(numbers.setdefault(config.comparable(key), len(numbers)) for config in known)
        if len(numbers) > 1:
            axes.setdefault(pattern, []).append(key)
    return [
        Axis(key, tuple(also), tuple(ordered({config.comparable(key) for config in known})))
        for key, *also in axes.values()
    ]


def values(config: RunConfig, keys: Iterable[str]) -> tuple[Any, ...]:
    """A config's values of some fields."""
    return tuple(config.comparable(key) for key in keys)


def in_words(keys: Iterable[str], found: Iterable[Any]) -> str:
    """``lora.seed=0, eval.temperature=0.7``."""
    return ", ".join(f"{key}={shown(value)}" for key, value in zip(keys, found, strict=True))


def shown(value: Any) -> str:
    """A value as it would be given on the command line."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def ordered(found: Iterable[Any]) -> list[Any]:
    """Values in order: what is not set, numbers, texts."""
    return sorted(found, key=lambda value: rank([value]))


def rank(found: Iterable[Any]) -> list[tuple[int, Any]]:
    """A key to sort a list of values by."""
    return [
        (0, 0) if value is None else (1, value) if isinstance(value, int | float) else (2, str(value))
        for value in found
    ]


def resolve(key: str, axes: Sequence[Axis]) -> str:
    """The field that a user means: its name, or the last part of it where that is unambiguous.

    Raises:
        PunieError: There is no such field, or more than one.
    """
    names = [[axis.key, *axis.also] for axis in axes]
    every = [name for each in names for name in each]
    if key in every or ("." in key and find_field(key) is not None):
        return key
    meant = [found[0] for each in names if (found := [name for name in each if name.endswith(f".{key}")])]
    if len(meant) == 1:
        return meant[0]
    raise PunieError(
        f"{key} could be several fields." if meant else f"There is no field {key}.",
        expected=f"an axis of these runs: {', '.join(every)}"
        if every
        else "a field such as eval.temperature",
    )


def name_contents(runs: Sequence[RunScores]) -> list[RunScores]:
    """The runs with their base model and suite named by content, wherever it lies.

    One content has one name; of several with one name, each has the beginning of its digest behind it. A
    run that did not get so far has the content of another with the same config.
    """
    bases = [
        Named(name=str(run.config.value("model.name")), sha256=run.base) if run.config and run.base else None
        for run in runs
    ]
    runs = _named(runs, bases, "model", "model.name")
    return _named(runs, [run.suite for run in runs], "eval.suite", "eval.suite")


def _named(
    runs: Sequence[RunScores], contents: Sequence[Named | None], decides: str, field: str
) -> list[RunScores]:
    """The runs with the name of their content in a field; ``decides`` is the field that the content is of."""
    said = [run.config and run.config.comparable(decides) for run in runs]
    known = {each: content for each, content in zip(said, contents, strict=True) if content}
    contents = [content or known.get(each) for each, content in zip(said, contents, strict=True)]
    names = {content.sha256: content.name for content in reversed(contents) if content}
    often = Counter(names.values())
    group, _, leaf = field.partition(".")
    found = []
    for run, content in zip(runs, contents, strict=True):
        if run.config:
            name = str(run.config.value(field))
            if content is None:
                name = Path(name).stem if name.endswith(".jsonl") else name
            elif often[name := names[content.sha256]] > 1:
                name = f"{name} {content.sha256[:SHORT]}"
            old = run.config.value(group)
            values = {**(old if isinstance(old, Mapping) else {}), leaf: name}
            run = dataclasses.replace(run, config=RunConfig({**run.config.values, group: values}))
        found.append(run)
    return found


@functools.cache
def _keys() -> tuple[str, ...]:
    """The fields that may be an axis: models and data first, seeds and temperature last."""
    fields = [known.key for known in schema_fields() if not known.about.get("neutral")]
    return (*_NAMED, *(key for key in fields if key not in LAST and not key.startswith("phase.")), *LAST)
