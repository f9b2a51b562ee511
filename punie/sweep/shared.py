"""Work that the jobs of a sweep share: checks made once, and quantized models kept until the last job."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

from punie.results.run import read_status
from punie.results.sweep import PlannedJob, SweepPlan
from punie.run import pipeline
from punie.store.artifacts import Store
from punie.store.leases import drop, lease
from punie.sweep.job import headline
from punie.util.errors import PunieError
from punie.util.progress import Reporter

CHECKS = ("preflight", "base")
"""Quick stages that every job begins with: on several workers, all would wait for the first."""


@contextlib.contextmanager
def prepared(plan: SweepPlan, folder: Path, reporter: Reporter) -> Generator[None]:
    """Make the checks of the jobs that are left, fetch their model, and lease what they share.

    With ``quantize.keep=until_evaluated`` a job drops its model, and the next temperature would build it
    again; so the sweep leases it, and drops it when the last of its jobs has finished.
    """
    checked, leased = set[tuple[str, ...]](), set[str]()
    with contextlib.ExitStack() as leases:
        for job in plan.jobs:
            if _finished(job, folder):
                continue
            parts = plan.parts_of(job)
            transient = job.config.value("quantize.keep") == "until_evaluated"
            checks = tuple(part.key for part in parts if part.stage in CHECKS and part.state != "hit")
            if checks and checks not in checked:
                checked.add(checks)
                _check(job, reporter)
            for part in parts:
                if part.stage == "quantize" and part.key not in leased and transient:
                    leased.add(part.key)
                    users = [other for other in plan.jobs if part.key in other.stages]
                    _lease(job, users, folder, leases)
        yield


def _check(job: PlannedJob, reporter: Reporter) -> None:
    config = job.typed()
    store = Store(Path(config.store.dir))
    try:
        pipeline.run(pipeline.plan(config, store), config, store, reporter, wanted=CHECKS)
    except PunieError as error:  # the job will fail with it, and the others go on
        reporter.line(f"✗ {Path(job.folder).name} cannot run: {headline(str(error))}", style="red")


def _lease(job: PlannedJob, users: list[PlannedJob], folder: Path, leases: contextlib.ExitStack) -> None:
    config = job.typed()
    store = Store(Path(config.store.dir))
    key = next(step.key for step in pipeline.plan(config, store).steps if step.stage.name == "quantize")
    if key is None:
        return  # its model is not here, and could not be fetched

    def drop_at_last() -> None:
        artifact = store.find("quantize", key)
        if artifact is not None and all(_finished(user, folder) for user in users):
            drop(store, artifact)

    leases.callback(drop_at_last)  # called after the lease has been given back
    leases.enter_context(lease(store, "quantize", key))


def _finished(job: PlannedJob, folder: Path) -> bool:
    return read_status(folder / job.folder).status == "finished"
