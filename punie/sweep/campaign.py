"""Runs a sweep wave by wave over any launcher; a job that fails does not stop the others."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from punie.config import Config
from punie.results import files
from punie.results.records import Status
from punie.results.run import STATUS
from punie.results.sweep import PlannedJob, SweepFacts, SweepPlan
from punie.run import pipeline
from punie.run.capture import now
from punie.run.directory import is_locked
from punie.store.artifacts import Store
from punie.store.leases import drop, lease
from punie.sweep import summary
from punie.sweep.job import GATE, SHARED, STOP, SweepInterrupted, end, headline
from punie.sweep.plan import shown
from punie.sweep.watch import watching
from punie.track import delivery
from punie.util.errors import PunieError
from punie.util.files import sweep
from punie.util.interrupts import check, heeded
from punie.util.progress import Reporter

log = logging.getLogger(__name__)
INTERRUPTED = 130
CHECKS = ("preflight", "base")
"""Quick stages that every job begins with: on several workers, all would wait for the first."""
_EVERY = 0.5
"""Seconds between looks at jobs that are still running."""
Launch = Callable[[Sequence[Sequence[str]], int], object]
"""Takes the overrides of several jobs and the first one's number; returns when all have ended."""


class SweepEnded(PunieError):
    """A sweep that did not succeed; ``exit_code`` is that of the process."""

    def __init__(self, what: str, exit_code: int, **rows: str | None) -> None:
        super().__init__(what, **rows)
        self.exit_code = exit_code


class Campaign:
    """Runs one sweep in its folder, an absolute path."""

    def __init__(self, plan: SweepPlan, folder: Path, launch: Launch) -> None:
        self.plan, self.folder = plan, folder
        self._launch = launch
        self._reporter = Reporter()
        self._trackers: list[delivery.Delivery] = []
        self._untracked: list[str] = []
        self._failed: dict[str, PlannedJob] = {}
        """Keys of stages that failed in this sweep, each with the job it failed in."""

    def run(self) -> None:
        """Launch what is not finished, and write the summary whatever happens.

        Raises:
            SweepEnded: Jobs failed, or the sweep was interrupted.
        """
        self._clear()
        began, interrupted, broken = now(), False, None
        try:
            self._begin_tracking(began)
            with (
                heeded(SweepInterrupted),  # not the job that happens to run in this process
                prepared(self.plan, self.folder, self._reporter),
                watching(self.plan, self.folder, self._reporter),
            ):
                for wave in self.plan.waves:
                    self._run_wave([self.plan.jobs[number] for number in wave])
        except KeyboardInterrupt:
            interrupted = True
            self._record("interrupted", began)  # a second one may not wait for the summary
        except PunieError as error:
            broken = error
        for job in self._in("running"):
            self._end(job, "interrupted" if interrupted else "killed", "stopped with its sweep")
        facts = summary.collect(self.plan, self.folder, interrupted=interrupted)
        found = summary.write(self.folder, facts)
        self._record(facts.status, began)
        print(summary.terminal(facts, self.folder, found))
        self._end_tracking(facts.status, began)
        if broken is not None:
            raise broken
        self._require_success(facts)

    def _record(self, status: str, began: str) -> None:
        ended = None if status == "running" else now()
        files.write(
            self.folder / STATUS,
            Status(
                version=Status.VERSION, status=status, started=began, ended=ended, untracked=self._untracked
            ),
        )

    def _begin_tracking(self, began: str) -> None:
        """Start the parent of the jobs in each tracker, and record which one the jobs need not try."""
        self._trackers = delivery.begin(self.plan.jobs[0].typed().track, self.folder)
        for each in self._trackers:
            each.run_started(name=self.plan.name, folder=self.folder, config={})
        self._untracked = [each.name for each in self._trackers if not each.reached()]
        if self._untracked:
            self._record("running", began)

    def _end_tracking(self, status: str, began: str) -> None:
        """End the parent, and say which trackers lack something of the sweep."""
        for each in self._trackers:
            each.run_ended(status=status, folder=self.folder)
        jobs = Counter(name for job in self.plan.jobs for name in job.status(self.folder).untracked)
        self._untracked = sorted({*jobs, *(each.name for each in self._trackers if each.lost)})
        for name in self._untracked:
            print(
                f"{name} lacks messages of {jobs[name]} of {len(self.plan.jobs)} jobs; to send them again: "
                f"punie track {shown(self.folder)}"
            )
        if self._untracked:
            self._record(status, began)

    def _clear(self) -> None:
        """Delete the status of jobs that are to be run again; some may still be running elsewhere."""
        (self.folder / STOP).unlink(missing_ok=True)
        sweep(self.folder)
        self._wait_for([job for job in self.plan.jobs if job.status(self.folder).status != "finished"])
        for job in self.plan.jobs:
            if job.status(self.folder).status != "finished":
                sweep(self.folder / job.folder)
                (self.folder / job.folder / STATUS).unlink(missing_ok=True)
        self._record("running", now())

    def _in(self, *states: str, jobs: Sequence[PlannedJob] | None = None) -> list[PlannedJob]:
        found = self.plan.jobs if jobs is None else jobs
        return [job for job in found if job.status(self.folder).status in states]

    def _end(self, job: PlannedJob, status: str, why: str) -> None:
        end(self.folder / job.folder, status, why)

    def _run_wave(self, jobs: Sequence[PlannedJob]) -> None:
        ready = []
        for job in self._in("planned", jobs=jobs):
            if (key := next((key for key in job.stages if key in self._failed), None)) is not None:
                stage, culprit = self.plan.parts[key].stage, Path(self._failed[key].folder).name
                self._end(job, "skipped", f"upstream: {stage} failed in {culprit}")
            elif (self.folder / STOP).exists():
                self._end(job, "skipped", "another job failed (sweep.fail_fast)")
            else:
                ready.append(job)
        while ready:
            self._run(ready)
            ready = self._in("planned", jobs=ready)
        self._note_failures(jobs)

    def _run(self, jobs: Sequence[PlannedJob]) -> None:
        """Launch jobs together; those that a launcher lost run again, each alone."""
        suspects = self._attempt(jobs)
        for job in suspects:
            if len(suspects) > 1:  # one of them ended the worker, and took the others along
                (self.folder / job.folder / STATUS).unlink()
                self._attempt([job])
            if self._in("planned", "running", jobs=[job]):
                self._end(job, "killed", "its process ended without a status")

    def _attempt(self, jobs: Sequence[PlannedJob]) -> list[PlannedJob]:
        """Launch jobs together; returns those that began and did not end.

        A launcher may give up while others of its jobs are still running, elsewhere: those are waited for.
        """
        cause: Exception | None = None
        place = sweep_dir(self.folder)
        sharing = {number for numbers in self.plan.sharing.values() for number in numbers}
        lines = [
            [
                *job.overrides,
                *([f"+hydra.job.env_set.{SHARED}='1'"] if job.number in sharing else []),
                place,
                f"hydra.sweep.subdir={job.folder}",
            ]
            for job in jobs
        ]
        try:
            self._launch(lines, jobs[0].number)
        except Exception as error:  # a launcher raises what it likes when a worker is killed
            log.info("the launcher gave up: %s: %s", type(error).__name__, error)
            cause = error
        self._wait_for(jobs)
        if len(self._in("planned", jobs=jobs)) == len(jobs):
            raise PunieError(
                "The launcher cannot start jobs.",
                where=self.folder,
                found=f"{type(cause).__name__}: {cause}" if cause else "it returned, and no job has a status",
                next_step=f"fix the launcher, then: punie resume {shown(self.folder)}; or give a corrected "
                "command: what is finished is reused",
            ) from cause
        return self._in("running", jobs=jobs)

    def _wait_for(self, jobs: Sequence[PlannedJob]) -> None:
        """Let jobs end that are still running, here or on another host."""
        while any(is_locked(self.folder / job.folder) for job in jobs):
            check()
            time.sleep(_EVERY)

    def _note_failures(self, jobs: Sequence[PlannedJob]) -> None:
        """Remember which stages failed, for the jobs that need them."""
        for job in self._in("failed", "killed", jobs=jobs):
            at = job.status(self.folder).at
            for part in self.plan.parts_of(job):
                if part.stage == at and part.computes:
                    self._failed[part.key] = job

    def _require_success(self, facts: SweepFacts) -> None:
        """Raise how the sweep ended, with the next step, unless it ended well."""
        count, resume = len(facts.jobs), f"punie resume {shown(self.folder)}"
        left = sum(job.status != "finished" for job in facts.jobs)
        if facts.status == "interrupted":
            what = f"The sweep was interrupted; {left} of {count} jobs are left."
            raise SweepEnded(what, INTERRUPTED, next_step=resume)
        if left:
            raise SweepEnded(f"{left} of {count} jobs did not finish.", 1, next_step=resume)
        if gated := sum(job.exit_code == GATE for job in facts.jobs):
            raise SweepEnded(f"{gated} of {count} jobs are below eval.fail_under.", GATE)


def sweep_dir(folder: Path) -> str:
    """The override that sets a sweep's folder."""
    return f"hydra.sweep.dir={QuotedString(str(folder), Quote.single).with_quotes()}"


@contextlib.contextmanager
def prepared(plan: SweepPlan, folder: Path, reporter: Reporter) -> Generator[None]:
    """Make the checks of the jobs that are left, fetch their model, and lease what they share.

    With ``quantize.keep=until_evaluated`` a job drops its model, and the next temperature would build it
    again; so the sweep leases it, and drops it when the last of its jobs has finished.
    """
    checked, leased = set[tuple[str, ...]](), set[str]()
    with contextlib.ExitStack() as leases:
        for job in plan.jobs:
            if job.status(folder).status == "finished":
                continue
            parts = plan.parts_of(job)
            checks = tuple(part.key for part in parts if part.stage in CHECKS and part.state != "hit")
            models = {part.key for part in parts if part.stage == "quantize"} - leased
            if checks and checks not in checked:
                checked.add(checks)
                config, store = _store(job)
                try:
                    pipeline.run(pipeline.plan(config, store), config, store, reporter, wanted=CHECKS)
                except PunieError as error:  # the job will fail with it, and the others go on
                    words = f"✗ {Path(job.folder).name} cannot run: {headline(str(error))}"
                    reporter.line(words, style="red")
            if models and job.config.value("quantize.keep") == "until_evaluated":
                leased |= models
                _lease(job, [other for other in plan.jobs if models & {*other.stages}], folder, leases)
        yield


def _store(job: PlannedJob) -> tuple[Config, Store]:
    config = job.typed()
    return config, Store(Path(config.store.dir))


def _lease(job: PlannedJob, users: list[PlannedJob], folder: Path, leases: contextlib.ExitStack) -> None:
    config, store = _store(job)
    key = next(step.key for step in pipeline.plan(config, store).steps if step.stage.name == "quantize")
    if key is None:
        return  # its model is not here, and could not be fetched

    def drop_at_last() -> None:
        artifact = store.find("quantize", key)
        if artifact is not None and all(user.status(folder).status == "finished" for user in users):
            drop(store, [artifact])

    leases.callback(drop_at_last)  # called after the lease has been given back
    leases.enter_context(lease(store, "quantize", key))
