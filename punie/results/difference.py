"""Compares two runs or configs, or the paired jobs of two sweeps: what differs, and where they diverge.

Jobs of sweeps are paired that have the same values on the axes, the config fields that differ within a sweep.
If the axes that both sweeps have tell every job from the others of its sweep, only those count, so that a
field which only one of them sweeps over is a difference like any other; else the axes of either count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from punie.config.fields import find_field
from punie.config.targets import DECIDING
from punie.results.config import SOURCES, RunConfig
from punie.results.records import Named, Provenance
from punie.results.run import CONFIG, PROVENANCE, RESULTS, SURROUNDINGS, Run
from punie.results.summary import axes
from punie.results.summary.collect import NOT_STARTED, RunScores
from punie.results.sweep import PlannedJob, SweepPlan
from punie.store.artifacts import Store
from punie.store.keys import differences

AXES = ("identity", "data", "code", "environment", "neutral")
"""Config that decides the result; content of data and suite; punie; where it ran; names and the like."""
_TIMED = ("evaluate",)
"""Stages whose files hold times, so that the same key need not give the same bytes."""
_READER = {"model": "base", "data": "train", "suite": "evaluate", "select_suite": "train"}
"""By input, the stage whose material has its digest."""
_STAGE_OF = {place: _READER[name] for name, places in SOURCES.items() for place in places}
_T = TypeVar("_T", "Change", "StageChange")


@dataclass(frozen=True)
class Side:
    """One of the two: a run, a planned job, or a config that could be run."""

    name: str
    """The run's folder, or the overrides."""
    config: RunConfig = field(default_factory=RunConfig)
    provenance: Provenance | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    """By stage, the key of its artifact."""
    materials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By stage, the inputs of its key; not for artifacts that the store no longer has."""
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By stage, the sha256 of each of its files."""

    @classmethod
    def of_run(cls, folder: Path, root: Path | None, planned: Side | None = None) -> Side:
        """A run's directory, with what the store has of it; a run that failed has fewer stages.

        ``root`` None is the run's own store; ``planned`` is what a sweep's plan has for it.

        Raises:
            DataError: A file of the run cannot be read.
        """
        run = Run(folder)
        planned = planned or cls(str(folder), run.config)
        named = run.results.artifacts if (folder / RESULTS).exists() else {}
        keys = {**planned.keys, **{row.stage: row.key for row in run.status.stages}}
        keys |= {stage: artifact.key for stage, artifact in named.items()}  # those not needed, too
        materials, store = {}, Store(root or run.store)
        for stage in keys.keys() & set(DECIDING):
            if stage in planned.materials and planned.keys[stage] == keys[stage]:
                materials[stage] = planned.materials[stage]
            elif artifact := store.find(stage, keys[stage]):
                materials[stage] = artifact.manifest["material"]
        return replace(
            planned,
            provenance=run.provenance if (folder / PROVENANCE).exists() else None,
            keys={stage: keys[stage] for stage in DECIDING if stage in keys},
            materials=materials,
            files={stage: artifact.files for stage, artifact in named.items()},
        )

    @classmethod
    def of_job(cls, plan: SweepPlan, job: PlannedJob, folder: Path, root: Path | None) -> Side:
        """A job of a sweep, also one that never ran: the plan has its config and keys."""
        keys, materials, place = {}, {}, folder / job.folder
        for part in reversed(plan.parts_of(job)):  # the first evaluation is of the target whose score counts
            if part.stage in DECIDING and part.material is not None:
                keys[part.stage], materials[part.stage] = part.key, part.material
        planned = cls(str(place), job.config, keys=keys, materials=materials)
        return cls.of_run(place, root, planned) if (place / CONFIG).exists() else planned


@dataclass(frozen=True)
class Change:
    """One value that differs."""

    key: str
    a: Any
    b: Any
    jobs: int = field(default=1, compare=False)
    """Pairs of jobs that have the difference."""


@dataclass(frozen=True)
class StageChange:
    """One stage whose artifact differs."""

    stage: str
    state: Literal["key", "bytes", "only a", "only b"]
    """Another key, the same key with other bytes, or a stage that one side does not have."""
    changes: tuple[Change, ...] = ()
    """The inputs of the key that differ, but for the stages before it; for bytes the files."""
    upstream: tuple[str, ...] = ()
    """The stages before it that differ."""
    jobs: int = field(default=1, compare=False)
    """Pairs of jobs that have the difference."""


@dataclass(frozen=True)
class Difference:
    """All that differs."""

    axes: Mapping[str, tuple[Change, ...]]
    stages: tuple[StageChange, ...]
    """In running order; the first is where the two diverge."""
    same: bool
    """Nothing that decides the result differs."""


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


def compare(*pairs: tuple[Side, Side]) -> Difference:
    """Everything that differs between the two of a pair, or of several pairs; each difference once."""
    rows: dict[str, dict[str, Change]] = {axis: {} for axis in AXES}
    stages: dict[str, StageChange] = {}
    for a, b in pairs:
        found = [stage for name in DECIDING if (stage := _stage(name, a, b)) is not None]
        for axis, change in _changes(a, b, found):
            _count(rows[axis], repr(change), change)
        for stage in found:
            names = [change.key for change in stage.changes]  # other bytes are one, whatever the digests are
            _count(stages, repr((stage.stage, names) if stage.state == "bytes" else stage), stage)
    ordered = sorted(stages.values(), key=lambda each: (DECIDING.index(each.stage), -each.jobs))
    same = not (rows["identity"] or rows["data"] or stages)
    return Difference({axis: tuple(each.values()) for axis, each in rows.items()}, tuple(ordered), same)


def compare_sweeps(a: Sequence[Side], b: Sequence[Side]) -> tuple[Difference, Matched]:
    """Everything that differs between the paired jobs of two sweeps.

    Where no jobs are paired: between the first ones, less the fields that would pair them.
    """
    matched = match(a, b)
    if matched.pairs:
        found = compare(*matched.pairs)
        return replace(found, same=found.same and not any(matched.only)), matched
    pairing = {name for each in matched.values for name in each}
    found = compare((a[0], b[0]))
    rows = {
        axis: tuple(replace(change, jobs=0) for change in each if change.key not in pairing)
        for axis, each in found.axes.items()
    }
    return Difference(rows, (), same=False), matched


def match(a: Sequence[Side], b: Sequence[Side]) -> Matched:
    """Pair the jobs of two sweeps; those with the same values in the order of their numbers."""
    configs = [run.config for run in axes.name_contents([_run(side) for side in (*a, *b)]) if run.config]
    found = (configs[: len(a)], configs[len(a) :])
    own = [axes.find(each) for each in found]
    names = [[name for axis in each for name in (axis.key, *axis.also)] for each in own]
    every = list(dict.fromkeys(names[0] + names[1]))
    keys = [name for name in every if name in names[0] and name in names[1]]
    if not all(len({axes.values(config, keys) for config in each}) == len(each) for each in found):
        keys = every
    first = {axis.key for each in own for axis in each}
    by = [name for name in keys if name in first] or keys
    places: dict[tuple[Any, ...], tuple[list[tuple[Side, str]], ...]] = defaultdict(lambda: ([], []))
    for end, sides in enumerate((a, b)):
        for side, config in zip(sides, found[end], strict=True):
            words = axes.in_words(by, axes.values(config, by))
            places[axes.values(config, keys)][end].append((side, words))
    left = [
        tuple(each for ends in places.values() for each in ends[end][len(ends[1 - end]) :]) for end in (0, 1)
    ]
    swept = [
        {key: axes.ordered({config.comparable(key) for config in each}) for key in keys} for each in found
    ]
    return Matched(
        by=tuple(by),
        values=(swept[0], swept[1]),
        pairs=tuple((x, y) for ends in places.values() for (x, _), (y, _) in zip(*ends, strict=False)),
        only=(left[0], left[1]),
    )


def surroundings(a: Provenance, b: Provenance) -> list[Change]:
    """Where and with what two ran, as far as both recorded it."""
    known = SURROUNDINGS & a.model_fields_set & b.model_fields_set
    return _nested(a.model_dump(mode="json", include=known), b.model_dump(mode="json", include=known))


def _count(kept: dict[str, _T], key: str, found: _T) -> None:
    kept[key] = replace(found, jobs=kept[key].jobs + 1) if key in kept else found


def _nested(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    return [Change(name.replace("/", "."), was, is_) for name, was, is_ in differences(a, b)]


def _changes(a: Side, b: Side, stages: Sequence[StageChange]) -> Iterator[tuple[str, Change]]:
    """Each value that differs, with its axis: config, contents of inputs, surroundings, code of stages."""
    for change in _nested(a.config.values, b.config.values):
        if (axis := _config_axis(change, a, b)) is not None:
            yield axis, change
    seen = set()  # several stages read the same data
    for stage in DECIDING:
        if stage in a.materials and stage in b.materials:
            for change in _nested(*(side.materials[stage].get("contents", {}) for side in (a, b))):
                if change.key not in seen:
                    seen.add(change.key)
                    yield "data" if change.key.split(".")[0] in ("data", "suite") else "identity", change
    for change in surroundings(a.provenance, b.provenance) if a.provenance and b.provenance else ():
        code = change.key.split(".")[0] == "git" or change.key == "packages.punie"
        yield "code" if code else "environment", change
    for stage in stages:
        for change in stage.changes:
            if change.key == "version":
                yield "code", replace(change, key=f"{stage.stage}.version")


def _config_axis(change: Change, a: Side, b: Side) -> str | None:
    """The axis of a config field; None for a field that is newer than one run, at the value it stands for."""
    if change.key.split(".")[0] == "phase":
        return "neutral"  # it decides the verdict and no score
    source = _STAGE_OF.get(change.key)
    if source is not None and not (source in a.materials and source in b.materials):
        return "identity" if source == "base" else "data"
    key, known = change.key, find_field(change.key)
    while known is None and key:
        key = key.rpartition(".")[0]  # the field it lies in: model.recipe for model.recipe.iters
        known = find_field(key)
    if known is None:
        return "identity"
    if "omit_if" in known.about:
        omitted = known.about["omit_if"]
        if (change.a, change.b) in ((None, omitted), (omitted, None)):
            return None
    if known.about.get("neutral"):
        return "neutral"
    return "data" if change.key.startswith("data.") else "identity"


def _stage(stage: str, a: Side, b: Side) -> StageChange | None:
    before, after = a.keys.get(stage), b.keys.get(stage)
    if before is None or after is None:
        return None if before == after else StageChange(stage, "only b" if before is None else "only a")
    if before == after:
        if stage in _TIMED or stage not in a.files or stage not in b.files:
            return None
        files = tuple(_nested(a.files[stage], b.files[stage]))
        return StageChange(stage, "bytes", files) if files else None
    if stage not in a.materials or stage not in b.materials:
        return StageChange(stage, "key")
    own, upstream = [], []
    for name, *values in differences(a.materials[stage], b.materials[stage]):
        group, _, rest = name.partition("/")  # such as settings/lora.seed, contents/data/train.jsonl, version
        if group == "upstream":
            upstream.append(rest)
        else:
            own.append(Change((rest or name).replace("/", "."), *values))
    return StageChange(stage, "key", tuple(own), tuple(upstream))


def _run(side: Side) -> RunScores:
    """A side as the axes take it, with base model and suite by content where that is known."""
    suite = side.materials.get("evaluate", {}).get("contents", {}).get("suite")
    name = Path(str(side.config.value("eval.suite"))).stem
    named = Named(name=name, sha256=str(suite)) if suite else None
    return RunScores(
        Path(side.name), NOT_STARTED, config=side.config, base=side.keys.get("base"), suite=named
    )
