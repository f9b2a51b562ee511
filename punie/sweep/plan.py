"""Plans a sweep: every job with its config, every stage once, what is missing of them, and in what order.

``make`` plans it, ``freeze`` writes plan.json, ``changes`` compares it later.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader

from punie import __version__
from punie.config import Config
from punie.config.command import CommandLine
from punie.config.compat import RUN_ID
from punie.model.resolve import NotCached
from punie.results import files
from punie.results.config import RunConfig
from punie.results.sweep import PLAN, Part, PlannedJob, SweepPlan
from punie.run import pipeline
from punie.run.capture import now
from punie.stages import train
from punie.stages.slices import Train
from punie.store.artifacts import Artifact, Miss, Store
from punie.store.keys import SHORT, artifact_key, differences, digest
from punie.sweep.compose import compose_all, grid
from punie.util.errors import PunieError
from punie.util.files import TEMPORARY
from punie.util.jsonl import excerpt

_NOT_READ = {
    f"lora.{name}"
    for name in (
        *("seed", "rank", "scale", "iters", "epochs", "batch_size", "grad_accumulation_steps"),
        *("accumulation", "learning_rate", "lr_schedule", "optimizer", "optimizer_config", "val_batches"),
        *("save_every", "select", "patience", "workers"),
    )
}
"""Fields of a training that its frozen layers' output does not depend on. It does on dropout and
grad_checkpoint: they decide whether a common opening is part of each example's."""


def make(
    loader: ConfigLoader,
    arguments: Sequence[str],
    *,
    params: Mapping[str, str],
    hydra_overrides: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> SweepPlan:
    """Plan a sweep; changes nothing and imports neither mlx nor transformers.

    ``flags`` are the command line's that say where presets are, which ``loader`` knows already.
    """
    name = CommandLine.read(flags).config_name
    composed = compose_all(loader, grid(loader, params, arguments), hydra_overrides, name)
    stores: dict[str, Store] = {}
    jobs: dict[str, PlannedJob] = {}
    parts: dict[str, Part] = {}
    problems: dict[str, None] = {}
    parameters: list[int | None] = []
    trainings: dict[str, Train] = {}
    for overrides, config, values in composed:
        if (whole := values.sha256) in jobs:
            continue
        store = stores.setdefault(config.store.dir, _Remembering(Path(config.store.dir)))
        plan = pipeline.plan(config, store)
        found = _parts(plan, config)
        stages = [part.key for part in found]
        jobs[whole] = PlannedJob(
            number=len(jobs), id=whole[:SHORT], overrides=list(overrides), config=values, stages=stages
        )
        for part in found:
            if part.key not in parts or parts[part.key].state == "skip":  # another job may need it
                parts[part.key] = part
        parameters.append(plan.parameters)
        trainings |= {step.key: step.settings for step in plan.steps if step.name == "train" and step.key}
        found_problems = [step.problem for step in plan.steps if step.problem is not None]
        problems |= {str(each): None for each in found_problems if not isinstance(each, NotCached)}
    sharing = _sharing(jobs.values(), parts, trainings)
    missing = {job.number: {key for key in job.stages if parts[key].expensive} for job in jobs.values()}
    return SweepPlan(
        version=SweepPlan.VERSION,
        arguments=[*flags, *hydra_overrides, *arguments],
        jobs=list(jobs.values()),
        parts=parts,
        waves=waves(missing),
        duplicates=len(composed) - len(jobs),
        name=composed[0].config.name,
        run_id=os.environ.get(RUN_ID, ""),
        cwd=str(Path.cwd()),
        created=now(),
        punie=__version__,
        problems=list(problems),
        sharing=sharing,
        parameters=parameters,
    )


def _sharing(
    jobs: Iterable[PlannedJob], parts: dict[str, Part], settings: Mapping[str, Train]
) -> dict[str, list[int]]:
    """See ``SweepPlan.sharing``. Of the trainings' disk, what they share is counted once.

    ``settings`` are those of each training, by key.
    """
    groups: dict[str, dict[str, list[PlannedJob]]] = {}
    for job in jobs:
        for part in (parts[key] for key in job.stages if parts[key].stage == "train" and parts[key].missing):
            if part.material is not None:
                read = {key: v for key, v in part.material["settings"].items() if key not in _NOT_READ}
                group = digest("sharing", {**part.material, "settings": read})
                groups.setdefault(group, {}).setdefault(part.key, []).append(job)
    found: dict[str, list[int]] = {}
    for group in (each for each in groups.values() if len(each) > 1):
        trainings = {key: settings[key] for key in group}
        try:
            first = next(iter(trainings.values()))
            examples = train.planned(first)[0].examples
            passes = {k: train.length(s.lora, examples).passes(s.lora) for k, s in trainings.items()}
            kept = train.frozen(first, sum(passes.values()))
        except PunieError:  # one of the plan's problems
            continue
        if kept is None:
            continue
        for number, (key, each) in enumerate(trainings.items()):
            alone = kept.bytes if each.lora.cache_frozen == "on" or passes[key] >= 1 else 0
            counted = parts[key].bytes - alone + (0 if number else kept.bytes)
            parts[key] = parts[key].model_copy(update={"bytes": max(0, counted)})
        numbers = sorted(job.number for jobs in group.values() for job in jobs)
        words = f"{kept.in_words}, by {len(group)} trainings"
        found[words] = [*found.get(words, []), *numbers]
    return found


def waves(missing: Mapping[int, Set[str]]) -> list[list[int]]:
    """Divide jobs into waves; the jobs of one wave build nothing in common.

    The first wave has one job for each distinct set of expensive stages that is missing; a later job finds
    what an earlier wave has built. Jobs that build nothing are in the last wave.
    ``missing`` are the keys, for each job, of the expensive stages that are not in the store.
    """
    found, built = [], set[str]()
    left, idle = [job for job in missing if missing[job]], [job for job in missing if not missing[job]]
    while left:
        wave, taken = [], set[str]()
        for job in left:
            wanted = missing[job] - built
            if wanted and not wanted & taken:
                wave.append(job)
                taken |= wanted
        wave = wave or left  # all that these need was built by the waves before
        found.append(wave)
        built |= taken
        left = [job for job in left if job not in wave]
    if idle:
        found = [*found[:-1], [*found[-1], *idle]] if found else [idle]
    return found


def freeze(plan: SweepPlan, folder: Path) -> None:
    """Write ``plan.json`` into the sweep's folder, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{PLAN}.{os.getpid()}{TEMPORARY}"
    files.write(draft, plan)
    try:
        os.link(draft, folder / PLAN)  # fails if it is there, and is never seen half-written
    except FileExistsError:
        raise PunieError(
            "The folder already holds a sweep.",
            where=folder,
            next_step=f"punie resume {folder}; without hydra.sweep.dir a sweep has its own folder",
        ) from None
    finally:
        draft.unlink()


def changes(old: SweepPlan, new: SweepPlan) -> list[str]:
    """What differs between the frozen plan and one made now: keys, not what the store has of them."""
    found = []
    if old.punie != new.punie:
        found.append(f"punie {old.punie} → {new.punie}")
    if len(old.jobs) != len(new.jobs):
        found.append(f"jobs {len(old.jobs)} → {len(new.jobs)}")
    for before, after in zip(old.jobs, new.jobs, strict=False):
        found += [f"config: {change}" for change in config_changes(before.config, after.config)]
        for key, other in zip(before.stages, after.stages, strict=False):
            one, two = old.parts[key], new.parts[other]
            if key != other and one.material is not None and two.material is not None:
                found += [
                    f"{one.stage}: {name.replace('/', '.')} {excerpt(was)} → {excerpt(now_is)}"
                    for name, was, now_is in differences(one.material, two.material)
                    if not name.startswith("upstream/")
                ]
    return list(dict.fromkeys(found))


def config_changes(old: RunConfig, new: RunConfig) -> list[str]:
    """The dotted keys at which two configs differ, each with the old and the new value."""
    found = differences(old.values, new.values)
    return [f"{name.replace('/', '.')} {excerpt(was)} → {excerpt(is_)}" for name, was, is_ in found]


def shown(path: Path) -> str:
    """A path relative to the working folder, if it is below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _parts(plan: pipeline.Plan, config: Config) -> list[Part]:
    """The stages of one job; a key that cannot be known yet is a digest of the config that decides it."""
    found: dict[str, Part] = {}
    for step in plan.steps:
        key = step.key
        if key is None:
            upstream = [found[name].key for name in step.stage.needs(step.settings)]
            decides = [step.stage.identity(step.config), upstream, dataclasses.asdict(config.model)]
            key = f"unknown-{digest('unknown', [step.stage.name, *decides])}"
        nearest = step.miss.nearest if step.miss else None
        size = plan.bytes.get(step.name, nearest.size if nearest else 0)
        found[step.name] = Part(
            stage=step.stage.name,
            key=key,
            state=step.state,
            reason=step.reason,
            computes=step.stage.computes,
            seconds=None if step.kept or nearest is None else _seconds(step, nearest),
            bytes=0 if step.kept or not step.needed else size,
            material=step.material,
        )
    return list(found.values())


def _seconds(step: pipeline.Step, nearest: Artifact) -> float | None:
    """What the nearest artifact took; a training scaled by its iterations or its epochs."""
    if step.material is None:
        return None
    seconds = float(nearest.manifest["seconds"]) - nearest.info.get("waited_seconds", 0.0)
    for unit in ("lora.iters", "lora.epochs"):
        then, now_is = (
            material["settings"].get(unit) for material in (nearest.manifest["material"], step.material)
        )
        if then and now_is and step.stage.name == "train":
            return seconds * now_is / then
    return seconds


class _Remembering(Store):
    """A store as it was at the first look: a thousand jobs ask for the same artifacts."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._known: dict[tuple[str, ...], Any] = {}

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact of a key, as it was at the first look."""
        return self._once(lambda: Store.find(self, stage, key), "find", stage, key)

    def explain(self, stage: str, material: Mapping[str, Any]) -> Miss:
        """Why it was not there."""
        return self._once(lambda: Store.explain(self, stage, material), "explain", artifact_key(material))

    def artifacts(self, stage: str | None = None) -> Iterator[Artifact]:
        """Every artifact, as they were at the first look."""
        return iter(self._once(lambda: [*Store.artifacts(self, stage)], "artifacts", stage or ""))

    def _once(self, look: Callable[[], Any], *question: str) -> Any:
        if question not in self._known:
            self._known[question] = look()
        return self._known[question]
