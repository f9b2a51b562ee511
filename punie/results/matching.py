"""Compares two sweeps job by job: which jobs are paired, and each difference once.

Jobs are paired that have the same values on the axes, the config fields that differ within a sweep. If the
axes that both sweeps have tell every job from the others of its sweep, only those count, so that a field
which only one of them sweeps over is a difference like any other; else the axes of either count.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from punie.config.targets import DECIDING
from punie.results.difference import AXES, Change, Difference, Side, StageChange, compare
from punie.results.records import Named
from punie.results.summary import axes
from punie.results.summary.collect import NOT_STARTED, RunScores

_T = TypeVar("_T", Change, StageChange)


@dataclass(frozen=True)
class Matched:
    """The jobs of two sweeps, paired."""

    by: tuple[str, ...]
    """The fields that pair them; of several that change together, the first."""
    values: tuple[Mapping[str, Sequence[Any]], Mapping[str, Sequence[Any]]]
    """In each sweep, the values of those fields."""
    pairs: tuple[tuple[Side, Side], ...]
    only: tuple[tuple[tuple[Side, str], ...], tuple[tuple[Side, str], ...]]
    """The jobs of each sweep without a partner, each with its values in words."""


def compare_jobs(a: Sequence[Side], b: Sequence[Side], matched: Matched) -> Difference:
    """Everything that differs between the paired jobs of two sweeps, each difference once.

    Where no jobs are paired: between the first ones, less the fields that would pair them.
    """
    found = [compare(*pair) for pair in matched.pairs]
    rows = found or [compare(a[0], b[0])]
    skip = () if found else {name for each in matched.values for name in each}
    changes = {
        axis: _counted((c for each in rows for c in each.axes[axis] if c.key not in skip), 1 if found else 0)
        for axis in AXES
    }
    stages = _counted((stage for each in found for stage in each.stages), 1)
    return Difference(
        changes,
        tuple(sorted(stages, key=lambda each: (DECIDING.index(each.stage), -each.jobs))),
        same=not any(matched.only) and all(each.same for each in found),
    )


def match(a: Sequence[Side], b: Sequence[Side]) -> Matched:
    """Pair the jobs of two sweeps; those with the same values in the order of their numbers."""
    configs = [run.config for run in axes.name_contents([_run(side) for side in (*a, *b)]) if run.config]
    sides, found = (a, b), (configs[: len(a)], configs[len(a) :])
    own = [axes.find(each) for each in found]
    names = [[name for axis in each for name in (axis.key, *axis.also)] for each in own]
    every = list(dict.fromkeys(names[0] + names[1]))
    keys = [name for name in every if name in names[0] and name in names[1]]
    if not all(len({axes.values(config, keys) for config in each}) == len(each) for each in found):
        keys = every
    first = {axis.key for each in own for axis in each}
    by = [name for name in keys if name in first] or keys
    places: dict[tuple[Any, ...], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for end, each in enumerate(found):
        for index, config in enumerate(each):
            places[axes.values(config, keys)][end].append(index)
    pairs = [(a[i], b[j]) for here, there in places.values() for i, j in zip(here, there, strict=False)]
    only = [
        tuple(
            (sides[end][index], axes.in_words(by, axes.values(found[end][index], by)))
            for ends in places.values()
            for index in ends[end][len(ends[1 - end]) :]
        )
        for end in (0, 1)
    ]
    swept = [
        {name: axes.ordered({config.comparable(name) for config in each}) for name in keys} for each in found
    ]
    return Matched(tuple(by), (swept[0], swept[1]), tuple(pairs), (only[0], only[1]))


def _run(side: Side) -> RunScores:
    """A side as the axes take it, with base model and suite by content where that is known."""
    suite = side.materials.get("evaluate", {}).get("contents", {}).get("suite")
    name = Path(str(side.config.value("eval.suite"))).stem
    named = Named(name=name, sha256=str(suite)) if suite else None
    return RunScores(
        Path(side.name), NOT_STARTED, config=side.config, base=side.keys.get("base"), suite=named
    )


def _counted(found: Iterable[_T], weight: int) -> tuple[_T, ...]:
    """Each difference once with its number, in the order in which they come up.

    Other bytes of a stage are one difference, whatever the digests are.
    """
    kept: dict[str, _T] = {}
    for each in found:
        plain = dataclasses.asdict(each)
        if plain.get("state") == "bytes":
            plain["changes"] = [change["key"] for change in plain["changes"]]
        key = json.dumps(plain, sort_keys=True, default=str)
        kept[key] = replace(each, jobs=(kept[key].jobs if key in kept else 0) + weight)
    return tuple(kept.values())
