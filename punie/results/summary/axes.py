"""The axes of a set of runs (the config fields whose values differ) and the recipes they make."""

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
from punie.results.summary.collect import RunScores
from punie.store.keys import SHORT
from punie.util.errors import PunieError

_LAST = (SEED, SAMPLING_SEED, TEMPERATURE)
"""The axes that make no recipe."""
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


@dataclass(frozen=True)
class Recipe:
    """Runs that differ in nothing but seeds and temperature."""

    label: str
    """Its values on the other axes, or its number where there are several axes; empty without any."""
    values: tuple[tuple[str, str], ...]
    """Each of the other axes with its value, as they are shown."""
    runs: tuple[RunScores, ...]

    @property
    def temperatures(self) -> list[float]:
        """Sorted."""
        return sorted({run.config.temperature for run in self.runs if run.config})

    def at(self, temperature: float) -> list[RunScores]:
        """The runs at a temperature."""
        return [run for run in self.runs if run.config and run.config.temperature == temperature]


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


def recipes(runs: Sequence[RunScores], axes: Sequence[Axis]) -> list[Recipe]:
    """The runs by their values on all axes but seeds and temperature, sorted."""
    keys = [axis.key for axis in axes if axis.key not in _LAST]
    groups: dict[tuple[Any, ...], list[RunScores]] = {}
    for run in runs:
        if run.config:
            groups.setdefault(values(run.config, keys), []).append(run)
    found = sorted(groups, key=rank)
    return [
        Recipe(
            f"recipe {number}" if len(keys) > 1 else in_words(keys, each),
            tuple(zip(keys, map(shown, each), strict=True)),
            tuple(groups[each]),
        )
        for number, each in enumerate(found, 1)
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
    names = [name for axis in axes for name in (axis.key, *axis.also)]
    if key in names or ("." in key and find_field(key) is not None):
        return key
    meant = [[name for name in (axis.key, *axis.also) if name.rpartition(".")[2] == key] for axis in axes]
    meant = [found for found in meant if found]
    if len(meant) == 1:
        return meant[0][0]
    raise PunieError(
        f"{key} could be several fields." if meant else f"There is no field {key}.",
        expected=f"an axis of these runs: {', '.join(names)}"
        if names
        else "a field such as eval.temperature",
    )


def name_contents(runs: Sequence[RunScores]) -> list[RunScores]:
    """The runs with their base model and suite named by content, wherever it lies.

    One content has one name; of several with one name, each has the beginning of its digest behind it. A
    run that did not get so far has the content of another with the same config.
    """
    models = {_model(run): run.base for run in runs if run.base}
    suites = {_suite(run): run.suite for run in runs if run.suite}
    bases = [run.base or models.get(_model(run)) for run in runs]
    asked = [run.suite or suites.get(_suite(run)) for run in runs]
    model_names = _names(
        (base, str(run.config.value("model.name")))
        for run, base in zip(runs, bases, strict=True)
        if run.config
    )
    suite_names = _names((suite.sha256, suite.name) for suite in asked if suite)
    found = []
    for run, base, suite in zip(runs, bases, asked, strict=True):
        if run.config:
            model = model_names.get(base, run.config.value("model.name"))
            name = suite_names[suite.sha256] if suite else Path(_suite(run)).stem
            config = _replaced(_replaced(run.config, "model", "name", model), "eval", "suite", name)
            run = dataclasses.replace(run, config=config)
        found.append(run)
    return found


def _replaced(config: RunConfig, group: str, field: str, value: object) -> RunConfig:
    old = config.value(group)
    return RunConfig({**config.values, group: {**(old if isinstance(old, Mapping) else {}), field: value}})


def _names(contents: Iterable[tuple[str | None, str]]) -> dict[str | None, str]:
    """By digest, the first name given to it."""
    names: dict[str | None, str] = {}
    for content, name in contents:
        if content is not None:
            names.setdefault(content, name)
    often = Counter(names.values())
    return {key: f"{name} {str(key)[:SHORT]}" if often[name] > 1 else name for key, name in names.items()}


def _model(run: RunScores) -> object:
    return run.config and run.config.comparable("model")


def _suite(run: RunScores) -> str:
    return str(run.config and run.config.value("eval.suite"))


@functools.cache
def _keys() -> tuple[str, ...]:
    """The fields that may be an axis: models and data first, seeds and temperature last."""
    fields = [known.key for known in schema_fields() if not known.about.get("neutral")]
    return (*_NAMED, *(key for key in fields if key not in _LAST and not key.startswith("phase.")), *_LAST)
