"""Compares two runs or configs: what differs, by axis, and the first stage that diverges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from punie.config.fields import Known, find_field
from punie.config.targets import DECIDING
from punie.results.config import RunConfig
from punie.results.records import Provenance
from punie.results.run import CONFIG, PROVENANCE, RESULTS, Run
from punie.results.sweep import PlannedJob, SweepPlan
from punie.store.artifacts import Store
from punie.store.keys import differences

AXES = ("identity", "data", "code", "environment", "neutral")
"""Config that decides the result; content of data and suite; punie; where it ran; names and the like."""
_TIMED = ("evaluate",)
"""Stages whose files hold times, so that the same key need not give the same bytes."""
_SURROUNDINGS = {"git", "packages", "python", "machine", "environment", "blas"}
SOURCES = {
    "model": ("model.embedded", "model.path", "model.repo", "model.revision"),
    "data": ("data.path",),
    "suite": ("eval.suite",),
    "select_suite": ("lora.select_suite",),
}
"""By input, the fields that say where it is. They count only where its digest is not known on both sides, as
for a model that is not on this machine."""
_READER = {"model": "base", "data": "train", "suite": "evaluate", "select_suite": "train"}
"""By input, the stage whose material has its digest."""
_STAGE_OF = {place: _READER[name] for name, places in SOURCES.items() for place in places}


@dataclass(frozen=True)
class Side:
    """One of the two: a run, or a config that could be run."""

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

        Args:
            folder: The run's.
            root: The store; None for the run's own.
            planned: What a sweep's plan has for it.

        Raises:
            DataError: A file of the run cannot be read.
        """
        run = Run(folder)
        named = run.results.artifacts if (folder / RESULTS).exists() else {}
        keys = {**(planned.keys if planned else {})}
        keys |= {row.stage: row.key for row in run.status.stages}
        keys |= {stage: artifact.key for stage, artifact in named.items()}  # those not needed, too
        materials = {
            stage: material
            for stage, material in (planned.materials if planned else {}).items()
            if planned and planned.keys[stage] == keys[stage]
        }
        store = Store(root or run.store)
        for stage in keys.keys() & set(DECIDING) - materials.keys():
            if artifact := store.find(stage, keys[stage]):
                materials[stage] = artifact.manifest["material"]
        return cls(
            name=str(folder),
            config=planned.config if planned else run.config,
            provenance=run.provenance if (folder / PROVENANCE).exists() else None,
            keys={stage: keys[stage] for stage in DECIDING if stage in keys},
            materials=materials,
            files={stage: artifact.files for stage, artifact in named.items()},
        )

    @classmethod
    def of_job(cls, plan: SweepPlan, job: PlannedJob, folder: Path, root: Path | None) -> Side:
        """A job of a sweep, also one that never ran: the plan has its config and keys."""
        keys, materials = {}, {}
        for part in plan.parts_of(job):
            # The first evaluation is that of the target whose score counts.
            if part.stage in DECIDING and part.material is not None and part.stage not in keys:
                keys[part.stage], materials[part.stage] = part.key, part.material
        place = folder / job.folder
        planned = cls(str(place), job.config, keys=keys, materials=materials)
        return cls.of_run(place, root, planned) if (place / CONFIG).exists() else planned


@dataclass(frozen=True)
class Change:
    """One value that differs."""

    key: str
    a: Any
    b: Any
    jobs: int = field(default=1, compare=False)
    """Pairs of jobs that have the difference, where sweeps are compared."""


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
    """As for a change."""


@dataclass(frozen=True)
class Difference:
    """All that differs between two sides, or between two sweeps."""

    axes: Mapping[str, tuple[Change, ...]]
    stages: tuple[StageChange, ...]
    """In running order; the first is where the two diverge."""
    same: bool
    """Nothing that decides the result differs."""


def compare(a: Side, b: Side) -> Difference:
    """Everything that differs between two runs or configs."""
    rows: dict[str, list[Change]] = {axis: [] for axis in AXES}
    for change in _changes(a.config.values, b.config.values):
        if (axis := _config_axis(change, a, b)) is not None:
            rows[axis].append(change)
    for change in _contents(a, b):
        rows["data" if change.key.split(".")[0] in ("data", "suite") else "identity"].append(change)
    for change in _surroundings(a.provenance, b.provenance):
        code = change.key.split(".")[0] == "git" or change.key == "packages.punie"
        rows["code" if code else "environment"].append(change)
    stages = tuple(found for stage in DECIDING if (found := _stage(stage, a, b)) is not None)
    for stage in stages:
        rows["code"] += [
            Change(f"{stage.stage}.{c.key}", c.a, c.b) for c in stage.changes if c.key == "version"
        ]
    same = not (rows["identity"] or rows["data"] or stages)
    return Difference({axis: tuple(changes) for axis, changes in rows.items()}, stages, same)


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    return [Change(name.replace("/", "."), was, is_) for name, was, is_ in differences(a, b)]


def _surroundings(a: Provenance | None, b: Provenance | None) -> list[Change]:
    """Where the two ran, as far as both recorded it."""
    if a is None or b is None:
        return []
    known = _SURROUNDINGS & a.model_fields_set & b.model_fields_set
    return _changes(a.model_dump(include=known), b.model_dump(include=known))


def _config_axis(change: Change, a: Side, b: Side) -> str | None:
    """The axis of a config field; None for a field that is newer than one run, at the value it stands for."""
    if change.key.split(".")[0] == "phase":
        return "neutral"  # it decides the verdict and no score
    source = _STAGE_OF.get(change.key)
    if source is not None and not (source in a.materials and source in b.materials):
        return "identity" if source == "base" else "data"
    known = _known(change.key)
    if known is None:
        return "identity"
    if "omit_if" in known.about:
        omitted = known.about["omit_if"]
        if (change.a, change.b) in ((None, omitted), (omitted, None)):
            return None
    if known.about.get("neutral"):
        return "neutral"
    return "data" if change.key.startswith("data.") else "identity"


def _known(key: str) -> Known | None:
    """The schema's field of a key, or the one it lies in: ``model.recipe`` for ``model.recipe.iters``."""
    while key:
        if (known := find_field(key)) is not None:
            return known
        key = key.rpartition(".")[0]
    return None


def _contents(a: Side, b: Side) -> Iterator[Change]:
    """Digests of data, suite and base model that differ, each once, though several stages read it."""
    seen = set()
    for stage in DECIDING:
        if stage in a.materials and stage in b.materials:
            contents = (side.materials[stage].get("contents", {}) for side in (a, b))
            for change in _changes(*contents):
                if change.key not in seen:
                    seen.add(change.key)
                    yield change


def _stage(stage: str, a: Side, b: Side) -> StageChange | None:
    before, after = a.keys.get(stage), b.keys.get(stage)
    if before is None or after is None:
        return None if before == after else StageChange(stage, "only b" if before is None else "only a")
    if before == after:
        if stage in _TIMED or stage not in a.files or stage not in b.files:
            return None
        files = tuple(_changes(a.files[stage], b.files[stage]))
        return StageChange(stage, "bytes", files) if files else None
    if stage not in a.materials or stage not in b.materials:
        return StageChange(stage, "key")
    found = differences(a.materials[stage], b.materials[stage])
    upstream = [name.removeprefix("upstream/") for name, *_ in found if name.startswith("upstream/")]
    own = [Change(_short(name), *values) for name, *values in found if not name.startswith("upstream/")]
    return StageChange(stage, "key", tuple(own), tuple(upstream))


def _short(name: str) -> str:
    """``lora.seed`` for ``settings/lora.seed``, ``data.train.jsonl`` for ``contents/data/train.jsonl``."""
    _, _, rest = name.partition("/")
    return (rest or name).replace("/", ".")
