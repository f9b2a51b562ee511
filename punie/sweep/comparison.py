"""Two sweeps compared job by job: which jobs belong together, and what differs, each difference once.

Jobs belong together that have the same place on the axes, the config fields that differ within a sweep. Where
the axes that both sweeps have tell every job from the others of its sweep, those count, so that a field which
only one of them sweeps over is a difference like any other; else the axes of either count.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Generic, TypeVar

from punie.results import difference as diff
from punie.results.difference import AXES, CHAIN, Change, Side, StageChange
from punie.results.summary import axes
from punie.results.summary.axes import shown, sort
from punie.results.summary.collect import NOT_STARTED, Run

Place = tuple[Any, ...]
"""A job's value on each axis."""
_T = TypeVar("_T", Change, StageChange)


@dataclass(frozen=True)
class Counted(Generic[_T]):
    """A difference, and how many of the matched jobs have it."""

    what: _T
    jobs: int


@dataclass(frozen=True)
class Matched:
    """The jobs of two sweeps, put side by side."""

    by: tuple[str, ...]
    """The fields that make a place; of several that differ in step, the first."""
    values: tuple[Mapping[str, tuple[Any, ...]], Mapping[str, tuple[Any, ...]]]
    """In each sweep, the values of those fields."""
    pairs: tuple[tuple[Side, Side], ...]
    only: tuple[tuple[tuple[Side, str], ...], tuple[tuple[Side, str], ...]]
    """The jobs of each sweep that the other has none for, each with its place in words."""


@dataclass(frozen=True)
class SweepDifference:
    """All that differs between two sweeps."""

    matched: Matched
    axes: Mapping[str, tuple[Counted[Change], ...]]
    """As of two runs. Where no jobs belong together: of the first ones, less what makes their places."""
    stages: tuple[Counted[StageChange], ...]
    """In running order, of the matched jobs; the first is where the sweeps diverge."""
    same: bool
    """Every job has another to which nothing that decides the result differs."""


def compare(a: Sequence[Side], b: Sequence[Side]) -> SweepDifference:
    """Everything that differs between the jobs of two sweeps."""
    matched = match(a, b)
    found = [diff.compare(*pair) for pair in matched.pairs]
    rows = found or [diff.compare(a[0], b[0])]
    skip = () if found else {field for each in matched.values for field in each}
    changes = {
        axis: _counted((c for each in rows for c in each.axes[axis] if c.key not in skip), bool(found))
        for axis in AXES
    }
    stages = _counted((stage for each in found for stage in each.stages), True)
    return SweepDifference(
        matched=matched,
        axes=changes,
        stages=tuple(sorted(stages, key=lambda each: (CHAIN.index(each.what.stage), -each.jobs))),
        same=not any(matched.only) and all(each.same for each in found),
    )


def match(a: Sequence[Side], b: Sequence[Side]) -> Matched:
    """Put the jobs of two sweeps side by side; of one place, in the order of their numbers."""
    runs = axes.name_contents([_run(side) for side in (*a, *b)])
    before, after = runs[: len(a)], runs[len(a) :]
    found = [axes.find(each) for each in (before, after)]
    one, other = ({name for axis in each for name in (axis.key, *axis.also)} for each in found)
    order = list(dict.fromkeys(name for each in found for axis in each for name in (axis.key, *axis.also)))
    keys = [name for name in order if name in one and name in other]
    if not all(len({_place(run, keys) for run in each}) == len(each) for each in (before, after)):
        keys = order
    by = [name for name in keys if any(axis.key == name for each in found for axis in each)] or keys
    places: dict[Place, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, each in enumerate((before, after)):
        for index, run in enumerate(each):
            places[_place(run, keys)][side].append(index)
    pairs: list[tuple[Side, Side]] = []
    only: tuple[list[tuple[Side, str]], list[tuple[Side, str]]] = ([], [])
    for here, there in places.values():
        for i, j in zip_longest(here, there):
            if i is not None and j is not None:
                pairs.append((a[i], b[j]))
            elif i is not None:
                only[0].append((a[i], _words(before[i], by)))
            else:
                only[1].append((b[j], _words(after[j], by)))
    values = [
        {name: tuple(sort({axes.value(run, name) for run in each})) for name in keys}
        for each in (before, after)
    ]
    return Matched(tuple(by), (values[0], values[1]), tuple(pairs), (tuple(only[0]), tuple(only[1])))


def _run(side: Side) -> Run:
    """A side as what has a place: its config, with base model and suite by content where that is known."""
    suite = side.materials.get("evaluate", {}).get("contents", {}).get("suite")
    named = (Path(str(side.config["eval"]["suite"])).stem, str(suite)) if suite else None
    return Run(Path(side.name), NOT_STARTED, config=side.config, base=side.keys.get("base"), suite=named)


def _place(run: Run, keys: Iterable[str]) -> Place:
    return tuple(axes.value(run, key) for key in keys)


def _words(run: Run, keys: Iterable[str]) -> str:
    return ", ".join(f"{key}={shown(axes.value(run, key))}" for key in keys)


def _counted(found: Iterable[_T], matched: bool) -> tuple[Counted[_T], ...]:
    """Each difference once, in the order in which they come up; other bytes are one whatever they are."""
    kept: dict[str, tuple[_T, int]] = {}
    for each in found:
        plain = dataclasses.asdict(each)
        if plain.get("state") == "bytes":
            plain["changes"] = [change["key"] for change in plain["changes"]]
        key = json.dumps(plain, sort_keys=True, default=str)
        kept[key] = (each, kept.get(key, (each, 0))[1] + matched)
    return tuple(Counted(each, number) for each, number in kept.values())
