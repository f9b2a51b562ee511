"""The Hydra task: one composed config → one run."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from punie.config import resolve
from punie.config.command import carried
from punie.util.errors import GateError, PunieError
from punie.util.progress import Reporter

if TYPE_CHECKING:
    from punie.config.schema import Config, EvalConfig
    from punie.results.records import Results, Scores

log = logging.getLogger(__name__)


def task(composed: DictConfig, reporter: Reporter | None = None, *, shares: bool = False) -> float | None:
    """Run the pipeline and show its result, unless it has a reporter of its own.

    With ``shares`` other runs will use the frozen layers' output, too: ``lora.cache_frozen=auto`` keeps it.

    Returns:
        The overall score that the phase's criteria speak of (keyword without a phase); None if answers
        are missing.

    Raises:
        GateError: The run is complete, and its score is below ``eval.fail_under``.
        PunieError: The run cannot start, or failed; its directory says so too.
    """
    # Imported here, so that --help and --cfg, which never come here, stay quick.
    from punie.model import blas
    from punie.results.records import StageStatus
    from punie.results.run import Run
    from punie.run import capture, pipeline
    from punie.run.directory import RunDirectory
    from punie.stages import merged
    from punie.stages.inputs import data_source
    from punie.store.artifacts import Store
    from punie.store.keys import digest
    from punie.track import delivery
    from punie.train.callbacks import Callbacks

    config = resolve(composed)
    if shares and config.lora.cache_frozen == "auto":
        config.lora.cache_frozen = "on"
    job = cast("DictConfig", HydraConfig.get())
    shown, reporter = reporter is None, reporter or Reporter()
    plain = cast("dict[str, Any]", OmegaConf.to_container(composed, resolve=True))
    flags = carried(job)
    directory = RunDirectory(Path(job.runtime.output_dir))
    provenance = capture.capture(
        argv=["python", "-m", "punie", *sys.argv[1:]],
        overrides=list(job.overrides.task),
        config_digest=digest("config", plain),
    )
    trackers = delivery.begin(config.track, directory.path)
    plan, told, error = pipeline.Plan(), Callbacks(trackers), None
    status, source = "failed", {}
    try:
        directory.begin(OmegaConf.to_yaml(composed, resolve=True), provenance, store=config.store.dir)
        told.each(lambda each: each.run_started(name=config.name, folder=directory.path, config=plain))
        if config.phase and config.phase.sweep and job.mode is RunMode.RUN:
            phase = f"+phase={config.phase.id}"
            reporter.line(
                f"note: phase {config.phase.id} is a sweep, and this runs its default job only; "
                f"the sweep: {shlex.join(['python', '-m', 'punie', '-m', *flags, phase])}",
                style="yellow",
            )
        store = Store(Path(config.store.dir))
        plan = pipeline.plan(config, store)
        pipeline.run(
            plan,
            config,
            store,
            reporter,
            uses=lambda keys: directory.note(uses=keys),  # punie store gc keeps them
            began=lambda at: directory.note(at=at),
            callbacks=told,
        )
        source = data_source(config.data)
        directory.collect(plan.artifacts())
        status = "finished"
    except KeyboardInterrupt:
        status, error = "interrupted", "interrupted; the same command goes on from what is finished"
        raise
    except BaseException as problem:  # a panic of the tokenizers crate is no Exception
        error = str(problem) if isinstance(problem, PunieError) else f"{type(problem).__name__}: {problem}"
        raise
    finally:
        try:
            at = next((step.stage.name for step in plan.steps if step.running), None)
            record = capture.finish(
                provenance,
                blas=blas.in_use(),
                inputs=merged(step.material["contents"] for step in plan.steps if step.material is not None),
                data=source,
                artifacts=plan.artifacts(),
            )
            stages = [
                StageStatus(
                    stage=step.name,
                    key=step.key or "",
                    reused=step.reused,
                    reason=step.reason,
                    seconds=step.seconds,
                )
                for step in plan.steps
                if step.artifact is not None
            ]
            directory.finish(status, record, stages, error, at=at)
        except OSError as unwritable:
            if status == "finished":
                raise
            log.warning("the run directory cannot be written: %s", unwritable)  # what failed first matters
        finally:
            told.each(lambda each: each.run_ended(status=status, folder=directory.path))
            if any(each.lost for each in trackers):
                directory.note(untracked=[each.name for each in trackers if each.lost])
    results = Run(directory.path).results
    if shown:
        _show(config, results, directory.path, [*flags, *job.overrides.task])
    _require_gate(config.eval, results)
    return results.find(config.phase.score if config.phase else "keyword")


def _require_gate(options: EvalConfig, scores: Scores) -> None:
    from punie.results.verdict import gate

    if options.fail_under is None:
        return
    failure = gate(scores, score=options.fail_score, under=options.fail_under, on=options.fail_on)
    if failure is not None:
        raise GateError(
            "The score is below the gate.",
            where=f"eval.fail_under={options.fail_under:g} eval.fail_on={options.fail_on}",
            found=failure,
            expected=f"at least {options.fail_under:g}",
        )


def _show(config: Config, results: Results, path: Path, overrides: list[str]) -> None:
    from punie.results.config import phase_record
    from punie.results.pages.tables import terminal
    from punie.results.verdict import decide

    phase = phase_record(config.phase)
    shown = os.path.relpath(path)
    print(f"\n{terminal(results, phase.baseline if phase else None)}\n\nrun directory: {shown}")
    print(f"next: open {shown}/report.html")
    if phase and (decision := decide(phase, results.verdict.outcome, overrides)):
        print(f"next: {decision}")
