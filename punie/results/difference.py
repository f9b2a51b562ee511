"""What differs between two runs, or what would: by axis, and by stage with the first one that diverges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from punie.config.fields import Known, find_field
from punie.store.keys import differences

CHAIN = ("base", "train", "quantize", "evaluate")
"""The stages that decide a score, in order. Preflight only checks, and the report only shows."""
AXES = ("identity", "data", "code", "environment", "neutral")
"""Config that decides the result; content of data and suite; punie; what it ran on; names and the like."""
_TIMED = ("evaluate",)
"""Stages whose files hold times, so that the same key need not give the same bytes."""
_SURROUNDINGS = ("git", "packages", "python", "machine", "environment", "blas")
SOURCES = {
    "model": ("model.embedded", "model.path", "model.repo", "model.revision"),
    "data": ("data.path",),
    "suite": ("eval.suite",),
    "select_suite": ("lora.select_suite",),
}
"""By input, the fields that say where it is. Its content decides, and where that is not known, as of a model
that is not on this machine, the place has to."""
_READER = {"model": "base", "data": "train", "suite": "evaluate", "select_suite": "train"}
"""By input, the stage whose material has its digest."""
_STAGE_OF = {place: _READER[name] for name, places in SOURCES.items() for place in places}


@dataclass(frozen=True)
class Side:
    """One of the two: a run, or a config that could be run."""

    name: str
    config: Mapping[str, Any]
    """The resolved config as plain values."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    """By stage, the key of its artifact."""
    materials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By stage, what its key is made of; not for artifacts that the store no longer has."""
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By stage, the sha256 of each of its files."""


@dataclass(frozen=True)
class Change:
    """One value that is not the same."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class StageChange:
    """One stage whose artifact is not the same."""

    stage: str
    state: Literal["key", "bytes", "only a", "only b"]
    """Another key, the same key with other bytes, or a stage that one side does not have."""
    changes: tuple[Change, ...] = ()
    """What went into the key, beyond the stages before it; for bytes the files, with their digests."""
    upstream: tuple[str, ...] = ()
    """The stages before it that differ."""


@dataclass(frozen=True)
class Difference:
    """All that differs between two sides."""

    axes: Mapping[str, tuple[Change, ...]]
    stages: tuple[StageChange, ...]
    """In running order; the first is where the two diverge."""

    @property
    def same(self) -> bool:
        """Nothing that decides the result differs."""
        return not (self.axes["identity"] or self.axes["data"] or self.stages)


def compare(a: Side, b: Side) -> Difference:
    """Everything that differs, and nothing that does not."""
    rows: dict[str, list[Change]] = {axis: [] for axis in AXES}
    for change in _changes(a.config, b.config):
        if (axis := _config_axis(change, a, b)) is not None:
            rows[axis].append(change)
    for change in _contents(a, b):
        rows["data" if change.key.split(".")[0] in ("data", "suite") else "identity"].append(change)
    known = [name for name in _SURROUNDINGS if name in a.provenance and name in b.provenance]
    for change in _changes(
        {name: a.provenance[name] for name in known}, {name: b.provenance[name] for name in known}
    ):
        code = change.key.split(".")[0] == "git" or change.key == "packages.punie"
        rows["code" if code else "environment"].append(change)
    stages = tuple(s for stage in CHAIN if (s := _stage(stage, a, b)) is not None)
    for stage in stages:
        rows["code"] += [
            Change(f"{stage.stage}.{c.key}", c.a, c.b) for c in stage.changes if c.key == "version"
        ]
    return Difference({axis: tuple(changes) for axis, changes in rows.items()}, stages)


def _changes(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> Iterator[Change]:
    """The dotted names at which two nested values differ; a group that one side lacks is one change."""
    for name in dict.fromkeys([*a, *b]):
        before, after = a.get(name), b.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _changes(before, after, f"{prefix}{name}.")
        elif before != after:
            yield Change(f"{prefix}{name}", before, after)


def _config_axis(change: Change, a: Side, b: Side) -> str | None:
    """The axis of a config field; None for a field that only one side knows, at the value it always had."""
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
    for stage in CHAIN:
        if stage in a.materials and stage in b.materials:
            for change in _changes(
                a.materials[stage].get("contents", {}), b.materials[stage].get("contents", {})
            ):
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
