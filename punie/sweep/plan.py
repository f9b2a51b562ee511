"""A sweep's plan: every job with its config, every stage once, what is missing of them, and in what order.

``make`` finds it, ``freeze`` writes it to ``plan.json``, ``read`` and ``changes`` compare it later.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from punie import __version__
from punie.config import Config, resolve
from punie.config.compose import translate
from punie.config.resolvers import RUN_ID
from punie.model.resolve import NotCached
from punie.run import pipeline
from punie.run.capture import now
from punie.store.artifacts import Store
from punie.store.digests import content_digests
from punie.store.keys import SHORT, digest
from punie.store.keys import differences as material_differences
from punie.sweep.compose import Composed, axes, brief, compose_all, differences, grid
from punie.sweep.parts import Part, Remembering, parts_of
from punie.sweep.waves import waves
from punie.util.errors import PunieError
from punie.util.files import TEMPORARY, write_json
from punie.util.jsonl import excerpt
from punie.util.paths import resource
from punie.util.plain import parse_json

FILE = "plan.json"
SCHEMA = 1
_ID = re.compile(r"[0-9a-f]{1,64}")
_PART = {
    "stage": str, "key": str, "state": str, "reason": str, "computes": bool, "seconds": int | float | None,
    "bytes": int, "material": dict | None,
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One job of a sweep."""

    number: int
    """Its place in the grid."""
    id: str
    """The first digits of its config's digest; the job compares them before it runs."""
    overrides: tuple[str, ...]
    config: Mapping[str, Any]
    """Resolved; plain values."""
    stages: tuple[str, ...]
    """Keys of its stages, in order."""

    @property
    def folder(self) -> str:
        """Its folder, relative to the sweep's; the same however often the sweep is resumed."""
        return f"jobs/{self.number:03d}-{self.id}"

    def typed(self) -> Config:
        """Its config as checked, typed objects.

        Raises:
            PunieError: It is not one.
        """
        try:
            merged = OmegaConf.merge(OmegaConf.structured(Config), self.config)
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            raise translate(error) from error
        return resolve(cast(DictConfig, merged))


@dataclass(frozen=True)
class SweepPlan:
    """A whole sweep, frozen."""

    arguments: tuple[str, ...]
    """The command line, without ``-m``."""
    jobs: tuple[Job, ...]
    parts: Mapping[str, Part]
    """Every distinct stage, by key."""
    waves: tuple[tuple[int, ...], ...]
    """Numbers of the jobs in the order in which they start."""
    duplicates: int = 0
    """Jobs left out because another has the same config."""
    conf: str = ""
    """Digest of every file of ``conf/``."""
    name: str = ""
    """The composed name; of the first job where they differ."""
    run_id: str = ""
    cwd: str = ""
    """The folder that relative paths start from."""
    created: str = ""
    punie: str = __version__
    problems: tuple[str, ...] = field(default=(), compare=False)
    """What stands in the way of a job, as far as it is known; not frozen."""
    parameters: tuple[int | None, ...] = field(default=(), compare=False)
    """Of each job's base model, None if it is not on this machine; not frozen."""

    @cached_property
    def by_folder(self) -> dict[str, Job]:
        """The jobs by the name of their folder."""
        return {Path(job.folder).name: job for job in self.jobs}

    @cached_property
    def axes(self) -> list[str]:
        """The overrides whose values differ among the jobs, in the command line's order."""
        return axes([job.overrides for job in self.jobs])

    def values(self, job: Job) -> dict[str, str]:
        """A job's place on each axis."""
        given = dict(override.partition("=")[::2] for override in job.overrides)
        return {axis.lstrip("+"): given[axis].strip("'\"") for axis in self.axes if axis in given}

    def label(self, job: Job) -> str:
        """A job's place in a few words."""
        return brief([f"{axis}={value}" for axis, value in self.values(job).items()] or job.overrides, 70)

    def parts_of(self, job: Job) -> list[Part]:
        """The stages of a job, in order."""
        return [self.parts[key] for key in job.stages]


def make(
    loader: ConfigLoader,
    arguments: Sequence[str],
    *,
    params: Mapping[str, str],
    hydra_overrides: Sequence[str] = (),
) -> SweepPlan:
    """Plan a sweep; changes nothing and imports neither mlx nor transformers.

    Args:
        loader: Hydra's, initialised.
        arguments: The command line's overrides, without those for Hydra itself.
        params: A preset's axes.
        hydra_overrides: Those for Hydra itself.

    Raises:
        PunieError: A job does not compose, or its config cannot be used.
    """
    conf = conf_digest()
    composed = compose_all(loader, grid(loader, params, arguments), hydra_overrides)
    distinct: dict[str, Composed] = {}
    for one in composed:
        distinct.setdefault(digest("config", one.plain), one)
    stores: dict[str, Store] = {}
    jobs: list[Job] = []
    parts: dict[str, Part] = {}
    problems: dict[str, None] = {}
    parameters: list[int | None] = []
    for number, (whole, one) in enumerate(distinct.items()):
        store = stores.setdefault(one.config.store.dir, Remembering(Path(one.config.store.dir)))
        plan = pipeline.plan(one.config, store)
        found = parts_of(plan, one.config)
        jobs.append(Job(number, whole[:SHORT], one.overrides, one.plain, tuple(p.key for p in found)))
        for part in found:
            if part.key not in parts or parts[part.key].state == "skip":  # another job may need it
                parts[part.key] = part
        parameters.append(plan.parameters)
        problems |= dict.fromkeys(str(s.problem) for s in plan.steps if _stops(s.problem))
    return SweepPlan(
        arguments=(*hydra_overrides, *arguments),
        jobs=tuple(jobs),
        parts=parts,
        waves=_waves(jobs, parts),
        duplicates=len(composed) - len(distinct),
        conf=conf,
        name=composed[0].config.name,
        run_id=os.environ.get(RUN_ID, ""),
        cwd=str(Path.cwd()),
        created=now(),
        problems=tuple(problems),
        parameters=tuple(parameters),
    )


def freeze(plan: SweepPlan, folder: Path) -> None:
    """Write ``plan.json`` into the sweep's folder, whole or not at all.

    Raises:
        PunieError: The folder has a plan already.
    """
    values = {entry.name: getattr(plan, entry.name) for entry in dataclasses.fields(plan) if entry.compare}
    values["jobs"] = [dataclasses.asdict(job) for job in plan.jobs]
    values["parts"] = {key: dataclasses.asdict(part) for key, part in plan.parts.items()}
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{FILE}.{os.getpid()}{TEMPORARY}"
    write_json(draft, {"schema": SCHEMA, **values})
    try:
        os.link(draft, folder / FILE)  # fails if it is there, and is never seen half-written
    except FileExistsError:
        raise PunieError(
            "The folder holds a sweep already.",
            where=folder,
            next_step=f"punie resume {folder}; without hydra.sweep.dir a sweep has its own folder",
        ) from None
    finally:
        draft.unlink()


def read(folder: Path) -> SweepPlan:
    """The plan of a sweep's folder.

    Raises:
        PunieError: The folder is not a sweep's, or its plan is of another version.
    """
    path = folder / FILE
    try:
        values = parse_json(path.read_bytes())
        schema = values.pop("schema")
        if schema != SCHEMA:
            raise PunieError(
                "The sweep was planned by another version of punie.",
                where=path,
                found=excerpt(f"plan schema {schema}, punie {values.get('punie')}", 200),
                expected=f"plan schema {SCHEMA}",
                next_step="give the sweep's own command again: what is finished is reused",
            )
        jobs = tuple(
            Job(job["number"], job["id"], tuple(job["overrides"]), job["config"], tuple(job["stages"]))
            for job in values.pop("jobs")
        )
        parts = {key: Part(**part) for key, part in values.pop("parts").items()}
        ordered = tuple(map(tuple, values.pop("waves")))
        arguments = tuple(values.pop("arguments"))
        plan = SweepPlan(jobs=jobs, parts=parts, waves=ordered, arguments=arguments, **values)
        if wrong := _wrong(plan):
            raise ValueError(wrong)
        return plan
    except (FileNotFoundError, NotADirectoryError):
        found = "no such folder" if not folder.is_dir() else f"no {FILE} in it"
        what = "The folder is not a sweep's."
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        found, what = excerpt(f"{type(error).__name__}: {error}", 200), "The sweep's plan cannot be read."
    raise PunieError(
        what,
        where=folder,
        found=found,
        expected="the folder that a sweep printed, outputs/sweeps/NAME/ID",
    )


def _wrong(plan: SweepPlan) -> str | None:
    """What of a plan is not as ``freeze`` writes it, or None."""
    texts = (plan.conf, plan.name, plan.run_id, plan.cwd, plan.created, plan.punie, *plan.arguments)
    if not all(isinstance(each, str) for each in texts):
        return "a field that should be text is not"
    if any(argument.startswith("-") for argument in plan.arguments):
        return "an argument is an option, not an override"
    for key, part in plan.parts.items():
        if part.key != key or not all(isinstance(getattr(part, name), kind) for name, kind in _PART.items()):
            return f"the part {key} is not a stage's"
    for number, job in enumerate(plan.jobs):
        texts = (*job.overrides, *job.stages)
        if (
            job.number != number
            or not isinstance(job.config, dict)
            or not set(job.stages) <= plan.parts.keys()
        ):
            return f"job {number} has another number, no config, or a stage that is not among the parts"
        if not (isinstance(job.id, str) and _ID.fullmatch(job.id) and all(isinstance(t, str) for t in texts)):
            return f"job {number} has no id, or an override that is not text"
    if sorted(number for wave in plan.waves for number in wave) != list(range(len(plan.jobs))):
        return "the waves do not hold every job once"
    return None


def changes(old: SweepPlan, new: SweepPlan) -> list[str]:
    """What a plan made now has otherwise than the frozen one; hits and misses may differ, keys may not."""
    found = []
    if old.punie != new.punie:
        found.append(f"punie {old.punie} → {new.punie}")
    if len(old.jobs) != len(new.jobs):
        found.append(f"jobs {len(old.jobs)} → {len(new.jobs)}")
    for before, after in zip(old.jobs, new.jobs, strict=False):
        found += [f"config: {change}" for change in differences(before.config, after.config)]
        for key, other in zip(before.stages, after.stages, strict=False):
            one, two = old.parts[key], new.parts[other]
            if key != other and one.material is not None and two.material is not None:
                found += [
                    f"{one.stage}: {name.replace('/', '.')} {excerpt(was)} → {excerpt(now_is)}"
                    for name, was, now_is in material_differences(one.material, two.material)
                    if not name.startswith("upstream/")
                ]
    if found and old.conf != new.conf:
        found.append("conf/ was edited since")
    return list(dict.fromkeys(found))


def shown(path: Path) -> str:
    """A path as people give it: relative to the working folder, if it is below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def conf_digest() -> str:
    """One digest over every file of ``conf/``."""
    root = resource("conf")
    files = sorted(root.rglob("*.yaml"))
    names = [path.relative_to(root).as_posix() for path in files]
    return digest("conf", dict(zip(names, (content_digests([p])[p.name] for p in files), strict=True)))


def _stops(problem: PunieError | None) -> bool:
    return problem is not None and not isinstance(problem, NotCached)


def _waves(jobs: Sequence[Job], parts: Mapping[str, Part]) -> tuple[tuple[int, ...], ...]:
    missing = {job.number: {key for key in job.stages if parts[key].expensive} for job in jobs}
    return tuple(map(tuple, waves(missing)))
