"""Runs a plan: checks everything first, then builds what is missing, stage by stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from punie.config.schema import Config
from punie.model.device import device_kind
from punie.model.resolve import NotCached, NotEstimated
from punie.run.plan import SHOWN, Plan, Step, mark_needed, plan, reject, resolve_key
from punie.stages import COPIES, STAGES, base, machine, preflight
from punie.stages.inputs import base_folder, conversion
from punie.store.artifact import read
from punie.store.artifacts import Artifact, Store
from punie.store.keys import SHORT
from punie.store.leases import drop, lease, slot
from punie.train.callbacks import METRICS, Callbacks
from punie.util import interrupts
from punie.util.errors import Problems, PunieError, StoreError, each_problem
from punie.util.progress import Reporter

__all__ = ["Plan", "Step", "plan", "run"]


def run(
    plan: Plan,
    config: Config,
    store: Store,
    reporter: Reporter,
    *,
    wanted: Collection[str] = SHOWN,
    uses: Callable[[list[str]], None] = lambda _: None,
    began: Callable[[str], None] = lambda _: None,
    callbacks: Callbacks | None = None,
) -> None:
    """Run what is missing; in the end the wanted stages, and all they were built from, have their artifact.

    What happens is recorded in the plan's steps. ``uses`` is told the keys of all that the run uses, on which
    it has leases then; ``began`` when a stage begins to be built; the callbacks of each stage that has ended,
    and of the records of a training.

    Raises:
        PunieError: Something is wrong; what was finished stays in the store and in the plan.
    """
    running = _Running(plan, config, store, reporter, began, callbacks or Callbacks())
    with running.leases:
        running.require_ready()
        running.acquire()
        uses(running.hold())
        for note in base.notes(config):
            reporter.line(f"  note: {note}", style="yellow")
        running.set_damaged_aside()
        mark_needed(plan, wanted)
        for step in plan.steps:
            if step.needed or step.artifact is not None:
                running.complete(step)
            if step.stage is preflight.STAGE:
                running.require_memory(step)
    if set(SHOWN) <= set(wanted):
        running.drop()


@dataclass
class _Running:
    """A plan that is being run."""

    plan: Plan
    config: Config
    store: Store
    reporter: Reporter
    began: Callable[[str], None]
    callbacks: Callbacks
    leases: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def require_ready(self) -> None:
        """Gather every problem before anything expensive runs: inputs, machine, and the preflight's own."""
        plan = self.plan
        machine.require_files()
        found = [
            step.problem for step in plan.steps if step.problem and not isinstance(step.problem, NotCached)
        ]
        found += machine.shortages(self.config, plan.bytes, plan.parameters)
        found += [] if found else self._unpublishable()
        first = plan.steps[0]
        if found and first.material is not None and first.artifact is None:
            try:
                self.complete(first)
            except PunieError as error:
                found.append(error)
        problems = list({str(each): each for error in found for each in each_problem(error)}.values())
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise Problems("The run cannot start:", problems)

    def _unpublishable(self) -> Iterator[PunieError]:
        """What would stop the publication of a stage that is to run, hours later."""
        try:
            for step in self.plan.steps:
                if step.needed and step.kept is None:
                    self.store.place(step.stage.name)
        except StoreError as error:
            yield error

    def acquire(self) -> None:
        """Fetch what is not on this machine, so that the preflight checks it too; find the keys again."""
        fetched = False
        for step in self.plan.steps:
            if isinstance(step.problem, NotCached) and step.stage.acquire is not None:
                step.stage.acquire(step.settings, self.reporter)
                fetched = True
        for step in self.plan.steps if fetched else ():
            resolve_key(step, self.plan.by_name, self.store)

    def hold(self) -> list[str]:
        """Take a lease on all that is used, and look again: another run may have dropped some since the plan.

        Returns:
            The keys, those of a converted model and of converted data among them.
        """
        used = [(self.store, step.stage.name, step.key) for step in self.plan.steps if step.key]
        with contextlib.suppress(PunieError):
            inputs = (read(base_folder(self.config)), conversion(self.config.data))
            used += [(Store(each.path.parents[1]), each.stage, each.key) for each in inputs if each]
        for store, stage, key in used:
            self.leases.enter_context(lease(store, stage, key))
        for step in self.plan.steps:
            if step.artifact is not None and step.material is not None:
                step.artifact = self.store.find(step.stage.name, step.artifact.key)
                step.miss = None if step.artifact else self.store.explain(step.stage.name, step.material)
        return sorted({key for *_, key in used})

    def set_damaged_aside(self) -> None:
        """Read every byte of what this run will use; what is damaged is moved away and built again."""
        used = set(COPIES)
        reject(self.plan)
        for step in reversed(self.plan.steps):
            if step.artifact is not None and (step.name in used or step.stage.name in used):
                damage = step.artifact.damage(digests=True)
                step.rejected = f"damaged: {damage}" if damage else step.rejected
                if step.rejected is not None:
                    self.store.set_aside(step.artifact.path)
                    step.artifact = None
            if step.artifact is None:
                used |= set(step.stage.needs(step.settings))

    def require_memory(self, checked: Step) -> None:
        """Refuse what does not fit, now that the preflight knows how long the rows and the prompts are."""
        from punie.model import blas
        from punie.stages import memory

        missing = [step for step in self.plan.steps if step.needed and step.artifact is None]
        trained, evaluated = (
            [step.config for step in missing if step.stage.memory == kind]
            for kind in ("training", "evaluation")
        )
        facts = checked.artifact.info if checked.artifact is not None else {}
        if not (longest := facts.get("longest")) or not (trained or evaluated):
            return
        blas.activate(self.config.runtime.blas)  # before what follows imports mlx
        answers, row, prompt = facts["prompts"] * self.config.eval.repeats, longest["row"], longest["prompt"]
        try:
            found = memory.shortage(trained, evaluated, row=row, prompt=prompt, answers=answers)
        except NotEstimated as error:
            self.reporter.line(f"  note: {error.what} ({error.found})", style="yellow")
            return
        if found is not None:
            raise found

    def complete(self, step: Step) -> None:
        """Make sure that the step has its artifact, and tell what happened."""
        interrupts.check()
        name, clock = step.name, time.monotonic()
        if step.material is None:
            resolve_key(step, self.plan.by_name, self.store)
        if step.problem is not None:
            raise step.problem
        assert step.material is not None  # noqa: S101 - it has no problem and its upstream is complete
        if step.artifact is not None:
            step.reused = True
        else:
            self.reporter.line(f"▸ {name:<10} run    {step.reason}")
            step.running = True
            self.began(step.stage.name)
            step.artifact, step.reused = self.store.get_or_build(
                step.stage.name,
                step.material,
                lambda out: self._build(step, out),
                resumable=step.stage.resumable,
            )
            step.running = False
        artifact, reused = step.artifact, step.reused
        if reused and step.stage.computes:
            self.callbacks.written(artifact.path / METRICS)
        seconds = step.seconds = round(time.monotonic() - clock, 3)
        detail = step.reason if reused else f"{artifact.size / 1e6:.1f} MB"
        mark = f"✓ {name:<10} {'reused' if reused else 'done':<6} {artifact.key[:SHORT]}"
        self.reporter.line(f"{mark}  {seconds:6.1f} s  {detail}", style="green")
        self.callbacks.each(
            lambda each: each.stage_ended(stage=name, folder=artifact.path, seconds=seconds, reused=reused)
        )

    def _build(self, step: Step, out: Path) -> Mapping[str, Any]:
        from punie.model import blas  # what only a run needs is imported here: plan must be quick
        from punie.util.processes import run_alone

        runtime, needs = self.config.runtime, step.stage.needs(step.settings)
        inputs = {n: a for n in needs if (a := self.plan.by_name[n].artifact) is not None}
        isolated = step.stage.computes and (
            runtime.isolation == "process"
            or (runtime.isolation == "auto" and device_kind() != "cpu")
            or blas.decided_otherwise(runtime.blas)
        )
        arguments = (step.stage.name, step.settings, inputs, out, runtime.blas)
        stream = places = None
        if step.stage.computes:
            stream, places = out / METRICS, runtime.device_jobs or (None if device_kind() == "cpu" else 1)
        # The slot is innermost: whoever has a place waits for nothing else.
        with self.callbacks.following(stream), slot(self.store, places) as waited:
            info = run_alone(_run_stage, *arguments) if isolated else _run_stage(*arguments, self.reporter)
        return {**info, "waited_seconds": round(waited, 3)} if places else info

    def drop(self) -> None:
        """Delete artifacts that are kept only as long as a run needs them; another run builds them again."""
        for step in self.plan.steps:
            found = step.artifact
            if found is not None and step.stage.transient(step.settings) and drop(self.store, [found]):
                self.reporter.line(f"  {step.stage.name} dropped, {found.size / 1e6:.1f} MB (quantize.keep)")


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
    info = stage.run(settings, inputs, out, reporter or Reporter())
    if not stage.computes:
        return info
    return {**info, "blas": blas.in_use(), "process_peak_mb": peak_memory_mb()}
