"""The axes of a set of runs: the config fields whose resolved values differ, and the recipes they make."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.config.fields import find_field, schema_fields
from punie.results.summary.collect import Run
from punie.store.keys import SHORT
from punie.util.errors import PunieError

TEMPERATURE = "eval.temperature"
SEEDS = ("lora.seed", "eval.seed")
_NAMED = ("model.name", "data.name", "eval.suite")
"""Neutral by themselves, for content decides; a change of content is shown by its name."""


@dataclass(frozen=True)
class Axis:
    """A config field that differs among the runs."""

    key: str
    also: tuple[str, ...]
    """Fields that differ in step with it, so that they cannot be told apart."""
    values: tuple[Any, ...]
    """Sorted."""


@dataclass(frozen=True)
class Recipe:
    """Runs that differ in nothing but seeds and temperature."""

    label: str
    """Its place on the other axes, or its number where there are several; empty if there are none."""
    place: tuple[tuple[str, str], ...]
    """Each of the other axes with its value, as they are shown."""
    runs: tuple[Run, ...]

    @property
    def temperatures(self) -> list[float]:
        """Sorted."""
        return sorted({temperature(run) for run in self.runs})

    def at(self, value: float) -> list[Run]:
        """The runs at a temperature."""
        return [run for run in self.runs if temperature(run) == value]


def find(runs: Sequence[Run]) -> list[Axis]:
    """The axes, seeds and temperature last; folders' names play no part.

    Runs without a config have no place.
    """
    placed = [run for run in runs if run.config]
    axes: dict[tuple[int, ...], list[str]] = {}
    for key in _keys():
        values = [value(run, key) for run in placed]
        numbers: dict[Any, int] = {}
        pattern = tuple(numbers.setdefault(each, len(numbers)) for each in values)
        if len(numbers) > 1:
            axes.setdefault(pattern, []).append(key)
    return [
        Axis(keys[0], tuple(keys[1:]), tuple(sort({value(run, keys[0]) for run in placed})))
        for keys in axes.values()
    ]


def recipes(runs: Sequence[Run], axes: Sequence[Axis]) -> list[Recipe]:
    """The runs by their place on all axes but seeds and temperature, sorted."""
    keys = [axis.key for axis in axes if axis.key not in (*SEEDS, TEMPERATURE)]
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        if run.config:
            groups.setdefault(tuple(value(run, key) for key in keys), []).append(run)
    places = sorted(groups, key=lambda place: [order(each) for each in place])
    words = [tuple(zip(keys, map(shown, place), strict=True)) for place in places]
    labels = [", ".join(f"{key}={each}" for key, each in pairs) for pairs in words]
    if len(keys) > 1:
        labels = [f"recipe {number}" for number in range(1, len(places) + 1)]
    return [
        Recipe(label, pairs, tuple(groups[place]))
        for label, pairs, place in zip(labels, words, places, strict=True)
    ]


def value(run: Run, key: str) -> Any:
    """A field's value, as something that can be compared and hashed."""
    node: Any = run.config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if node is None:
        return _omitted(key)
    return json.dumps(node, sort_keys=True) if isinstance(node, (dict, list)) else node


def shown(each: Any) -> str:
    """A value in a table: as it would be given on the command line."""
    if each is None:
        return "null"
    return (
        str(each).lower() if isinstance(each, bool) else f"{each:g}" if isinstance(each, float) else str(each)
    )


def sort(values: Any) -> list[Any]:
    """Values in order: what is not set, numbers, texts."""
    return sorted(values, key=order)


def temperature(run: Run) -> float:
    """Of its sampling."""
    return float(run.config["eval"]["temperature"])


def training_seed(run: Run) -> int:
    """What its training was seeded with; 0 for the base model, which no seed of ours has touched."""
    if run.config["eval"].get("target") == "base":
        return 0
    return int(value(run, "lora.seed") or 0)


def resolve(key: str, axes: Sequence[Axis]) -> str:
    """The field that a user means: its name, or the last part of it where that is clear.

    Raises:
        PunieError: There is no such field, or more than one.
    """
    names = [name for axis in axes for name in (axis.key, *axis.also)]
    if key in names or ("." in key and find_field(key) is not None):
        return key
    meant = [[name for name in (axis.key, *axis.also) if name.rpartition(".")[2] == key] for axis in axes]
    meant = [found for found in meant if found]
    if len(meant) == 1:
        return meant[0][0]
    raise PunieError(
        f"{key} is no field, or could be several." if meant else f"There is no field {key}.",
        expected=f"an axis of these runs: {', '.join(names)}"
        if names
        else "a field such as eval.temperature",
    )


def name_contents(runs: Sequence[Run]) -> list[Run]:
    """The runs with their base model and suite named by content, wherever it lies.

    One content has one name; of several with one name, each has the beginning of its digest behind it. A
    run that did not get so far has the content of another with the same config.
    """
    models = {_model(run): run.base for run in runs if run.base}
    suites = {_suite(run): run.suite for run in runs if run.suite}
    bases = [run.base or models.get(_model(run)) for run in runs]
    asked = [run.suite or suites.get(_suite(run)) for run in runs]
    model_names = _names(
        [(base, str(value(run, "model.name"))) for run, base in zip(runs, bases, strict=True)]
    )
    suite_names = _names([(suite[1], suite[0]) for suite in asked if suite])
    found = []
    for run, base, suite in zip(runs, bases, asked, strict=True):
        if run.config:
            model = model_names.get(base, value(run, "model.name"))
            name = suite_names[suite[1]] if suite else Path(_suite(run)).stem
            config = {
                **run.config,
                "model": {**run.config.get("model", {}), "name": model},
                "eval": {**run.config["eval"], "suite": name},
            }
            run = dataclasses.replace(run, config=config)
        found.append(run)
    return found


def _names(contents: Sequence[tuple[str | None, str]]) -> dict[str | None, str]:
    """By digest, the first name given to it."""
    names: dict[str | None, str] = {}
    for content, name in contents:
        if content is not None:
            names.setdefault(content, name)
    often = Counter(names.values())
    return {key: f"{name} {str(key)[:SHORT]}" if often[name] > 1 else name for key, name in names.items()}


def _model(run: Run) -> str:
    return json.dumps(run.config.get("model"), sort_keys=True)


def _suite(run: Run) -> str:
    return str(run.config.get("eval", {}).get("suite"))


@functools.cache
def _keys() -> tuple[str, ...]:
    """The fields that may be an axis: models and data first, seeds and temperature last."""
    last = (*SEEDS, TEMPERATURE)
    fields = [known.key for known in schema_fields() if not known.about.get("neutral")]
    return (*_NAMED, *(key for key in fields if key not in last and not key.startswith("phase.")), *last)


@functools.cache
def _omitted(key: str) -> Any:
    """What a field of a run stands for that does not know it yet."""
    known = find_field(key)
    return known.about.get("omit_if") if known is not None else None


def order(each: Any) -> tuple[int, Any]:
    """A key to sort by: what is not set, numbers, texts."""
    if each is None:
        return (0, 0)
    return (1, each) if isinstance(each, (int, float)) else (2, str(each))
