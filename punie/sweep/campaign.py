"""Runs a sweep wave by wave over any launcher; a job that fails does not stop the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from punie.results import files
from punie.results.records import Status
from punie.results.run import STATUS, read_status
from punie.results.sweep import PlannedJob, SweepFacts, SweepPlan
from punie.run.capture import now
from punie.sweep import summary
from punie.sweep.job import GATE, STOP, SweepInterrupted, end, is_running
from punie.sweep.plan import shown
from punie.sweep.shared import prepared
from punie.sweep.watch import watching
from punie.util.errors import PunieError
from punie.util.files import sweep
from punie.util.interrupts import check, heeded
from punie.util.progress import Reporter

log = logging.getLogger(__name__)
INTERRUPTED = 130
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
            end(
                self.folder / job.folder, "interrupted" if interrupted else "killed", "stopped with its sweep"
            )
        facts = summary.collect(self.plan, self.folder, interrupted=interrupted)
        found = summary.write(self.folder, facts)
        self._record(facts.status, began)
        print(summary.terminal(facts, self.folder, found))
        if broken is not None:
            raise broken
        self._require_success(facts)

    def _record(self, status: str, began: str) -> None:
        ended = None if status == "running" else now()
        record = Status(version=Status.VERSION, status=status, started=began, ended=ended)
        files.write(self.folder / STATUS, record)

    def _clear(self) -> None:
        """Delete the status of jobs that are to be run again; some may still be running elsewhere."""
        (self.folder / STOP).unlink(missing_ok=True)
        sweep(self.folder)
        for job in self.plan.jobs:
            if self._status(job) != "finished":
                self._wait_for([job])
            if self._status(job) != "finished":
                sweep(self.folder / job.folder)
                (self.folder / job.folder / STATUS).unlink(missing_ok=True)
        self._record("running", now())

    def _status(self, job: PlannedJob) -> str:
        return read_status(self.folder / job.folder).status

    def _in(self, *states: str, jobs: Sequence[PlannedJob] | None = None) -> list[PlannedJob]:
        return [job for job in (self.plan.jobs if jobs is None else jobs) if self._status(job) in states]

    def _run_wave(self, jobs: Sequence[PlannedJob]) -> None:
        ready = []
        for job in self._in("planned", jobs=jobs):
            if (key := next((key for key in job.stages if key in self._failed), None)) is not None:
                stage, culprit = self.plan.parts[key].stage, Path(self._failed[key].folder).name
                end(self.folder / job.folder, "skipped", f"upstream: {stage} failed in {culprit}")
            elif (self.folder / STOP).exists():
                end(self.folder / job.folder, "skipped", "another job failed (sweep.fail_fast)")
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
            if self._status(job) in ("planned", "running"):
                end(self.folder / job.folder, "killed", "its process ended without a status")

    def _attempt(self, jobs: Sequence[PlannedJob]) -> list[PlannedJob]:
        """Launch jobs together; returns those that began and did not end.

        A launcher may give up while others of its jobs are still running, elsewhere: those are waited for.
        """
        cause: Exception | None = None
        place = sweep_dir(self.folder)
        lines = [[*job.overrides, place, f"hydra.sweep.subdir={job.folder}"] for job in jobs]
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
        while any(is_running(self.folder / job.folder) for job in jobs):
            check()
            time.sleep(_EVERY)

    def _note_failures(self, jobs: Sequence[PlannedJob]) -> None:
        """Remember which stages failed, for the jobs that need them."""
        for job in self._in("failed", "killed", jobs=jobs):
            at = read_status(self.folder / job.folder).at
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
