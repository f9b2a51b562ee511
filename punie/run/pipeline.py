"""The stage graph of one run: keys, reuse with the reason for a miss, and order.

A stage's key is the hash of its *material*: the stage and its version, the config it reads, the keys of
the stages it needs, the digests of its inputs, and for stages that compute the device and the versions
of mlx and mlx-lm. Keys chain on keys, so a whole plan is known before anything runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.config.schema import Config
from punie.model import estimate
from punie.model.device import device_kind, version
from punie.model.resolve import NotCached
from punie.stages import COPIES, STAGES, preflight
from punie.stages.contract import Settings, Stage
from punie.stages.inputs import base_folder
from punie.store.artifacts import Artifact, Miss, Store
from punie.store.keys import SCHEMA, SHORT, artifact_key
from punie.store.leases import drop, lease
from punie.store.slots import slot
from punie.util import interrupts
from punie.util.errors import Problems, PunieError, each_problem

if TYPE_CHECKING:
    from punie.util.progress import Reporter

SHOWN = ("preflight", *COPIES)
"""The stages a run is for: what is checked, and what its directory shows."""


@dataclass
class Step:
    """One stage of a plan."""

    name: str
    """The stage's name; with its target behind a colon for an evaluation beside the one that counts."""
    stage: Stage
    config: Config
    """The run's config, as this step sees it."""
    settings: Settings
    material: dict[str, Any] | None = None
    """What its key is made of; None as long as an input is unknown."""
    key: str | None = None
    artifact: Artifact | None = None
    """What the store has for the key: a hit."""
    miss: Miss | None = None
    """Why it has nothing."""
    rejected: str | None = None
    """Why the artifact that the store had was set aside."""
    problem: PunieError | None = None
    """Why the key cannot be known."""
    seconds: float = 0.0
    """Time taken in this run."""
    reused: bool = False
    running: bool = False
    """Its build began and has not ended: what a run was at when it failed."""
    needed: bool = True
    """This run uses its artifact; False where everything that is made from it is there already."""

    @property
    def state(self) -> str:
        """``hit``, ``blocked``, ``miss``, or ``skip`` where nothing needs it."""
        if self.artifact:
            return "hit"
        if self.problem:
            return "blocked"
        return "miss" if self.needed else "skip"

    @property
    def reason(self) -> str:
        """Hit or miss, and why, in a few words."""
        if self.problem is not None:
            return str(self.problem.what)
        if self.rejected is not None:
            return self.rejected
        if self.artifact is None and not self.needed:
            return "not needed: all that is made from it is there"
        if self.artifact is not None:
            return f"built {self.artifact.manifest['created'].replace('T', ' ').removesuffix('+00:00')}"
        return str(self.miss) if self.miss else "an input is not known yet"


@dataclass
class Plan:
    """The stages of one run, in order, and what they will take."""

    steps: list[Step] = field(default_factory=list)
    bytes: Mapping[str, int] = field(default_factory=dict)
    """Disk that a stage will take, roughly: the download, what is trained, what is quantized."""
    parameters: int | None = None
    """Of the base model; None if it is not on this machine."""

    @property
    def needed_bytes(self) -> int:
        """Disk that what is missing will take, roughly."""
        return sum(self.bytes.values())

    def artifacts(self) -> dict[str, Artifact]:
        """What is there, by stage."""
        return {step.name: step.artifact for step in self.steps if step.artifact is not None}


def plan(config: Config, store: Store) -> Plan:
    """What a run of this config would do; changes nothing and imports neither mlx nor transformers."""
    steps: dict[str, Step] = {}
    for name, stage, seen in _wanted(config):
        step = steps[name] = Step(name, stage, seen, stage.settings(seen))
        _resolve_key(step, steps, store)
    result = Plan(list(steps.values()))
    _mark_needed(result, SHOWN)
    result.parameters, result.bytes = _size(config, steps)
    return result


def run(
    plan: Plan,
    config: Config,
    store: Store,
    reporter: Reporter,
    *,
    wanted: Collection[str] = SHOWN,
    began: Callable[[Step], None] | None = None,
) -> None:
    """Run what is missing; in the end the wanted stages, and all they were built from, have their artifact.

    Args:
        plan: Of this very config; what happens is recorded in its steps.
        config: The run's.
        store: Where artifacts are.
        reporter: Told of each stage.
        wanted: Names of the stages the run is for.
        began: Told when a stage begins to be built.

    Raises:
        PunieError: Something is wrong; what was finished stays in the store and in the plan.
    """
    _require_ready(plan, config, store, reporter)
    _acquire(plan, config, store, reporter)
    _set_damaged_aside(plan, store)
    _mark_needed(plan, wanted)
    steps: dict[str, Step] = {}
    with contextlib.ExitStack() as leases:
        for step in plan.steps:
            steps[step.name] = step
            if step.needed or step.artifact is not None:
                _complete(step, config, steps, store, reporter, leases, began)
            if step.stage is preflight.STAGE:
                _require_memory(plan, config, step, reporter)
    if config.quantize.keep == "until_evaluated" and "evaluate" in wanted:
        _drop(plan, store, reporter)


def _mark_needed(plan: Plan, wanted: Collection[str]) -> None:
    """Find the steps this run needs: those wanted, and those that a missing one is made from."""
    needed = set(wanted)
    for step in reversed(plan.steps):
        step.needed = step.name in needed or step.stage.name in needed
        if step.needed and step.artifact is None:
            needed |= set(step.stage.needs(step.settings))


def _drop(plan: Plan, store: Store, reporter: Reporter) -> None:
    """Delete the quantized model, which has been evaluated; what needs it again builds it again."""
    for step in plan.steps:
        if step.stage.name == "quantize" and step.artifact is not None and drop(store, step.artifact):
            reporter.line(f"  {step.stage.name} dropped, {step.artifact.size / 1e6:.1f} MB (quantize.keep)")


def _wanted(config: Config) -> list[tuple[str, Stage, Config]]:
    """The stages that a run is for, and all that they depend on, in running order."""
    found: dict[str, tuple[str, Stage, Config]] = {}
    todo = [*SHOWN]
    while todo:
        name = todo.pop()
        if name not in found:
            stage, seen = _step(name, config)
            found[name] = (name, stage, seen)
            todo += stage.needs(stage.settings(seen))
    return sorted(found.values(), key=lambda each: (STAGES.index(each[1]), each[0]))


def _step(name: str, config: Config) -> tuple[Stage, Config]:
    """The stage of a step, and the config as it sees it: ``evaluate:base`` evaluates another target."""
    plain, _, target = name.partition(":")
    stage = next(stage for stage in STAGES if stage.name == plain)
    if not target:
        return stage, config
    return stage, dataclasses.replace(config, eval=dataclasses.replace(config.eval, target=target))


def _resolve_key(step: Step, steps: Mapping[str, Step], store: Store) -> None:
    """Find the step's material and key, and what the store has for it."""
    stage = step.stage
    upstream = {name: steps[name].key for name in stage.needs(step.settings)}
    try:
        contents = stage.contents(step.settings)
    except PunieError as error:
        step.problem = error
        return
    step.problem = None
    if any(key is None for key in upstream.values()):
        return
    step.material = {
        "schema": SCHEMA,
        "stage": stage.name,
        "version": stage.version,
        "settings": stage.identity(step.config),
        "upstream": upstream,
        "contents": contents,
    }
    if stage.libraries:
        step.material["libraries"] = {name: version(name) for name in stage.libraries}
    if stage.computes:
        step.material["device"] = device_kind()
    step.key = artifact_key(step.material)
    step.artifact = store.find(stage.name, step.key)
    step.miss = None if step.artifact else store.explain(stage.name, step.material)


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

    missing: dict[str, list[Config]] = {"train": [], "evaluate": []}
    for step in plan.steps:
        if step.needed and step.artifact is None and step.stage.name in missing:
            missing[step.stage.name].append(step.config)
    if not any(missing.values()):
        return
    blas.activate(config.runtime.blas)  # what follows imports mlx, and the BLAS has to be there first
    facts = checked.artifact.info if checked.artifact is not None else {}
    if longest := facts.get("longest"):
        answers = facts["prompts"] * config.eval.repeats
        try:
            found = memory.shortage(
                *missing.values(), row=longest["row"], prompt=longest["prompt"], answers=answers
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
            _resolve_key(step, steps, store)


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
) -> None:
    """Make sure that the step has its artifact, and tell what happened."""
    from punie.model import blas  # what only a run needs is imported here: plan must be quick
    from punie.util.processes import run_alone

    interrupts.check()
    name, clock = step.name, time.monotonic()
    if step.material is None:
        _resolve_key(step, steps, store)
    if step.problem is not None:
        raise step.problem
    assert step.material is not None  # noqa: S101 - it has no problem and its upstream is complete
    if name == "quantize" and leases is not None and step.key is not None:
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
            with slot(store, places) as waited:  # innermost: whoever has a place waits for nothing else
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


def _device_jobs(config: Config) -> int | None:
    """How many jobs may compute at once here; None for no limit."""
    if config.runtime.device_jobs is None and device_kind() != "cpu":
        return 1
    return config.runtime.device_jobs


def _run_stage(
    name: str,
    settings: Settings,
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


def _size(config: Config, steps: Mapping[str, Step]) -> tuple[int | None, dict[str, int]]:
    """Parameters of the base model, and the bytes that missing artifacts and the download will take."""
    needed: dict[str, int] = {}
    try:
        folder = base_folder(steps["base"].settings)
        parameters = estimate.weights(folder).parameters
        train, lora = steps.get("train"), config.lora
        if train is not None and train.needed and train.artifact is None:
            copies = 1 + min(lora.keep_checkpoints, lora.iters // lora.save_every)
            needed["train"] = copies * estimate.adapter_bytes(
                folder,
                fine_tune_type=lora.fine_tune_type,
                num_layers=lora.num_layers,
                rank=lora.rank,
                keys=lora.keys,
            )
    except NotCached:
        size = (config.model.size_gb or 0) * 1e9
        needed["base"] = int(size)
        parameters = int(size * 8 / 4.5)  # hub models here are 4-bit in groups of 64
    except PunieError:
        return None, {}
    quantize = steps.get("quantize")
    if quantize is not None and quantize.needed and quantize.artifact is None:
        bits = max(config.quantize.bits or 0, 6) if config.quantize.recipe else config.quantize.bits
        needed["quantize"] = estimate.quantized_bytes(parameters, bits, config.quantize.group_size)
    return (parameters or None), needed
