"""Plans a sweep: every job with its config, every stage once, what is missing of them, and in what order.

``make`` plans it, ``freeze`` writes plan.json, ``changes`` compares it later.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from hydra.core.config_loader import ConfigLoader

from punie import __version__
from punie.config.compat import RUN_ID
from punie.model.resolve import NotCached
from punie.results import files
from punie.results.config import RunConfig
from punie.results.sweep import PLAN, Part, PlannedJob, SweepPlan
from punie.run import pipeline
from punie.run.capture import now
from punie.store.artifacts import Store
from punie.store.keys import SHORT, content_digests, differences, digest
from punie.sweep.compose import Composed, compose_all, grid
from punie.sweep.parts import Remembering, parts_of
from punie.util.errors import PunieError
from punie.util.files import TEMPORARY
from punie.util.jsonl import excerpt
from punie.util.paths import resource


def make(
    loader: ConfigLoader,
    arguments: Sequence[str],
    *,
    params: Mapping[str, str],
    hydra_overrides: Sequence[str] = (),
) -> SweepPlan:
    """Plan a sweep; changes nothing and imports neither mlx nor transformers."""
    conf = conf_digest()
    composed = compose_all(loader, grid(loader, params, arguments), hydra_overrides)
    distinct: dict[str, Composed] = {}
    for one in composed:
        distinct.setdefault(digest("config", one.plain), one)
    stores: dict[str, Store] = {}
    jobs: list[PlannedJob] = []
    parts: dict[str, Part] = {}
    problems: dict[str, None] = {}
    parameters: list[int | None] = []
    for number, (whole, one) in enumerate(distinct.items()):
        store = stores.setdefault(one.config.store.dir, Remembering(Path(one.config.store.dir)))
        plan = pipeline.plan(one.config, store)
        found = parts_of(plan, one.config)
        jobs.append(
            PlannedJob(
                number=number,
                id=whole[:SHORT],
                overrides=list(one.overrides),
                config=RunConfig(one.plain),
                stages=[part.key for part in found],
            )
        )
        for part in found:
            if part.key not in parts or parts[part.key].state == "skip":  # another job may need it
                parts[part.key] = part
        parameters.append(plan.parameters)
        found_problems = [step.problem for step in plan.steps if step.problem is not None]
        problems |= {str(each): None for each in found_problems if not isinstance(each, NotCached)}
    missing = {job.number: {key for key in job.stages if parts[key].expensive} for job in jobs}
    return SweepPlan(
        version=SweepPlan.VERSION,
        arguments=[*hydra_overrides, *arguments],
        jobs=jobs,
        parts=parts,
        waves=waves(missing),
        duplicates=len(composed) - len(distinct),
        conf=conf,
        name=composed[0].config.name,
        run_id=os.environ.get(RUN_ID, ""),
        cwd=str(Path.cwd()),
        created=now(),
        punie=__version__,
        problems=list(problems),
        parameters=parameters,
    )


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
    if found and old.conf != new.conf:
        found.append("conf/ was edited since")
    return list(dict.fromkeys(found))


def config_changes(old: RunConfig, new: RunConfig) -> list[str]:
    """The dotted keys at which two configs differ, each with the old and the new value."""
    found = differences(old.values, new.values)
    return [f"{name.replace('/', '.')} {excerpt(was)} → {excerpt(is_)}" for name, was, is_ in found]


def shown(path: Path) -> str:
    """A path relative to the working folder, if it is below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def conf_digest() -> str:
    """One digest over every file of ``conf/``."""
    root = resource("conf")
    paths = sorted(root.rglob("*.yaml"))
    return digest(
        "conf", {path.relative_to(root).as_posix(): content_digests([path])[path.name] for path in paths}
    )
