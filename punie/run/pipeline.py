"""Runs a plan: checks everything first, then builds what is missing, stage by stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.config.schema import Config
from punie.model.device import device_kind
from punie.model.resolve import NotCached
from punie.run.plan import SHOWN, Plan, Step, mark_needed, plan, resolve_key
from punie.stages import COPIES, STAGES, preflight
from punie.store.artifacts import Artifact, Store
from punie.store.keys import SHORT
from punie.store.leases import drop, lease
from punie.store.slots import slot
from punie.train.callbacks import Callbacks
from punie.train.callbacks.metrics_file import NAME
from punie.util import interrupts
from punie.util.errors import Problems, PunieError, each_problem

if TYPE_CHECKING:
    from punie.util.progress import Reporter

__all__ = ["Plan", "Step", "plan", "run"]


def run(
    plan: Plan,
    config: Config,
    store: Store,
    reporter: Reporter,
    *,
    wanted: Collection[str] = SHOWN,
    began: Callable[[Step], None] | None = None,
    callbacks: Callbacks | None = None,
) -> None:
    """Run what is missing; in the end the wanted stages, and all they were built from, have their artifact.

    Args:
        plan: Of this very config; what happens is recorded in its steps.
        config: The run's.
        store: Where artifacts are.
        reporter: Told of each stage.
        wanted: Names of the stages the run is for.
        began: Told when a stage begins to be built.
        callbacks: Told of each stage that has ended, and of the records of a training.

    Raises:
        PunieError: Something is wrong; what was finished stays in the store and in the plan.
    """
    _require_ready(plan, config, store, reporter)
    _acquire(plan, config, store, reporter)
    _set_damaged_aside(plan, store)
    mark_needed(plan, wanted)
    steps: dict[str, Step] = {}
    with contextlib.ExitStack() as leases:
        for step in plan.steps:
            steps[step.name] = step
            if step.needed or step.artifact is not None:
                _complete(step, config, steps, store, reporter, leases, began, callbacks)
            if step.stage is preflight.STAGE:
                _require_memory(plan, config, step, reporter)
    if set(SHOWN) <= set(wanted):
        _drop(plan, store, reporter)


def _drop(plan: Plan, store: Store, reporter: Reporter) -> None:
    """Delete artifacts that are kept only as long as a run needs them; another run builds them again."""
    for step in plan.steps:
        if step.artifact is not None and step.stage.transient(step.settings) and drop(store, step.artifact):
            reporter.line(f"  {step.stage.name} dropped, {step.artifact.size / 1e6:.1f} MB (quantize.keep)")


def _require_ready(plan: Plan, config: Config, store: Store, reporter: Reporter) -> None:
    """Gather every problem before anything expensive runs: inputs, machine, and the preflight's own."""
    problems: dict[str, PunieError] = {}
    for step in plan.steps:
        if step.problem is not None and not isinstance(step.problem, NotCached):
            problems |= {str(problem): problem for problem in each_problem(step.problem)}
    problems |= {str(p): p for p in preflight.machine(config, plan.needed_bytes, plan.parameters)}
    first = plan.steps[0]
    if problems and first.material is not None and first.artifact is None:
        try:
            _complete(first, config, {}, store, reporter)
        except PunieError as error:
            problems |= {str(problem): problem for problem in each_problem(error)}
    if len(problems) == 1:
        raise next(iter(problems.values()))
    if problems:
        raise Problems("The run cannot start:", list(problems.values()))


def _require_memory(plan: Plan, config: Config, checked: Step, reporter: Reporter) -> None:
    """Refuse what does not fit, now that the preflight knows how long the rows and the prompts are."""
    from punie.model import blas
    from punie.stages import memory

    missing = [step for step in plan.steps if step.needed and step.artifact is None]
    trained, evaluated = (
        [step.config for step in missing if step.stage.memory == kind] for kind in ("training", "evaluation")
    )
    if not trained and not evaluated:
        return
    blas.activate(config.runtime.blas)  # what follows imports mlx, and the BLAS has to be there first
    facts = checked.artifact.info if checked.artifact is not None else {}
    if longest := facts.get("longest"):
        answers = facts["prompts"] * config.eval.repeats
        try:
            found = memory.shortage(
                trained, evaluated, row=longest["row"], prompt=longest["prompt"], answers=answers
            )
        except PunieError as error:  # of a model that punie knows too little of: not a reason to refuse it
            reporter.line(f"  note: {error.what} ({error.found})", style="yellow")
            return
        if found is not None:
            raise found


def _acquire(plan: Plan, config: Config, store: Store, reporter: Reporter) -> None:
    """Fetch what is not on this machine, so that the preflight checks it too, and find the keys again."""
    missing = [step for step in plan.steps if isinstance(step.problem, NotCached) and step.stage.acquire]
    for step in missing:
        if step.stage.acquire is not None:
            step.stage.acquire(step.settings, reporter)
    if missing:
        steps = {step.name: step for step in plan.steps}
        for step in plan.steps:
            resolve_key(step, steps, store)


def _set_damaged_aside(plan: Plan, store: Store) -> None:
    """Read every byte of what this run will use; what is damaged is moved away and built again."""
    used = set(COPIES)
    for step in reversed(plan.steps):
        if step.artifact is not None and (step.name in used or step.stage.name in used):
            damage = step.artifact.damage(digests=True)
            step.rejected = f"damaged: {damage}" if damage else step.stage.unfinished(step.artifact)
            if step.rejected is not None:
                store.set_aside(step.artifact)
                step.artifact = None
        if step.artifact is None:
            used |= set(step.stage.needs(step.settings))


def _complete(
    step: Step,
    config: Config,
    steps: Mapping[str, Step],
    store: Store,
    reporter: Reporter,
    leases: contextlib.ExitStack | None = None,
    began: Callable[[Step], None] | None = None,
    callbacks: Callbacks | None = None,
) -> None:
    """Make sure that the step has its artifact, and tell what happened."""
    from punie.model import blas  # what only a run needs is imported here: plan must be quick
    from punie.util.processes import run_alone

    interrupts.check()
    told = callbacks or Callbacks()
    name, clock = step.name, time.monotonic()
    if step.material is None:
        resolve_key(step, steps, store)
    if step.problem is not None:
        raise step.problem
    assert step.material is not None  # noqa: S101 - it has no problem and its upstream is complete
    if step.stage.leased and leases is not None and step.key is not None:
        leases.enter_context(lease(store, name, step.key))
        step.artifact = store.find(name, step.key)  # another run may have dropped it since the plan
        if step.artifact is None and not step.needed:
            return
    if step.artifact is not None:
        step.reused = True
    else:
        reporter.line(f"▸ {name:<10} run    {step.reason}")
        step.running = True
        if began is not None:
            began(step)
        inputs = {n: a for n in step.stage.needs(step.settings) if (a := steps[n].artifact) is not None}
        isolated = step.stage.computes and (
            config.runtime.isolation == "process"
            or (config.runtime.isolation == "auto" and device_kind() != "cpu")
            or blas.decided_otherwise(config.runtime.blas)
        )

        def build(out: Path) -> Mapping[str, Any]:
            arguments = (step.stage.name, step.settings, inputs, out, config.runtime.blas)
            places = _device_jobs(config) if step.stage.computes else None
            # The slot is innermost: whoever has a place waits for nothing else.
            with told.following(out / NAME if step.stage.computes else None), slot(store, places) as waited:
                info = run_alone(_run_stage, *arguments) if isolated else _run_stage(*arguments, reporter)
            return {**info, "waited_seconds": round(waited, 3)} if places else info

        step.artifact, step.reused = store.get_or_build(
            step.stage.name, step.material, build, resumable=step.stage.resumable
        )
        step.running = False
    step.seconds = round(time.monotonic() - clock, 3)
    mark = "reused" if step.reused else "done"
    detail = step.reason if step.reused else f"{step.artifact.size / 1e6:.1f} MB"
    reporter.line(
        f"✓ {name:<10} {mark:<6} {step.artifact.key[:SHORT]}  {step.seconds:6.1f} s  {detail}", style="green"
    )
    artifact, seconds, reused = step.artifact, step.seconds, step.reused
    told.each(lambda each: each.stage_ended(stage=name, folder=artifact.path, seconds=seconds, reused=reused))


def _device_jobs(config: Config) -> int | None:
    """How many jobs may compute at once here; None for no limit."""
    if config.runtime.device_jobs is None and device_kind() != "cpu":
        return 1
    return config.runtime.device_jobs


def _run_stage(
    name: str,
    settings: Any,
    inputs: Mapping[str, Artifact],
    out: Path,
    use_blas: bool,
    reporter: Reporter | None = None,
) -> Mapping[str, Any]:
    """Run a stage here; also the entry point of a stage's own process, which makes its own reporter."""
    from punie.model import blas
    from punie.run.capture import peak_memory_mb

    blas.activate(use_blas)
    stage = next(stage for stage in STAGES if stage.name == name)
    if reporter is None:
        from punie.util.progress import Reporter

        reporter = Reporter()
    info = stage.run(settings, inputs, out, reporter)
    if not stage.computes:
        return info
    return {**info, "blas": blas.in_use(), "process_peak_mb": peak_memory_mb()}
