"""Shows a running sweep: one live table on a terminal, a line for each job that ends elsewhere."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from punie.results.records import Status
from punie.results.run import read_status
from punie.results.sweep import PlannedJob, SweepPlan
from punie.sweep.job import headline
from punie.sweep.plan import shown
from punie.util.progress import Reporter

_EVERY = 0.5
"""Seconds between looks at the job folders."""
_ENDED = ("finished", "failed", "killed", "skipped", "interrupted")
_SHOWN = 8


@contextmanager
def watching(plan: SweepPlan, folder: Path, reporter: Reporter) -> Generator[None]:
    """Show the sweep's progress while the block runs, as the status files of its jobs have it."""
    view = View(plan, folder)
    ended = threading.Event()
    reporter.line(
        f"{len(plan.jobs)} jobs in {len(plan.waves)} wave{'s' * (len(plan.waves) > 1)}: {shown(folder)}"
    )
    live = None
    if reporter.console.is_terminal:
        live = Live(view.table(), console=reporter.console, refresh_per_second=2, transient=True)

    def look() -> None:
        lines = view.look()
        if live:
            live.update(view.table())
        else:
            for line in lines:
                reporter.line(line)

    def watch() -> None:
        while not ended.wait(_EVERY):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    if live:
        live.start()
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()
        if live:
            live.stop()


class View:
    """The states of a sweep's jobs, as of the last look."""

    def __init__(self, plan: SweepPlan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.states: dict[int, Status] = {}
        self._began = time.monotonic()
        self.look()

    def look(self) -> list[str]:
        """Read the jobs that have not ended; returns a line for each that has another state than before."""
        lines = []
        for job in self.plan.jobs:
            if job.number in self.states and self.states[job.number].status in _ENDED:
                continue
            status = self.states[job.number] = read_status(self.folder / job.folder)
            if status.status in _ENDED:
                lines.append(self._line(job, status))
        return lines

    def counts(self) -> Counter[str]:
        """How many jobs are in each state."""
        return Counter(status.status for status in self.states.values())

    def left(self) -> float | None:
        """Seconds left, roughly: what is still to be built, by what such stages took; None if unknown."""
        took: dict[str, list[float]] = defaultdict(list)
        built: set[str] = set()
        for status in self.states.values():
            for stage in status.stages:
                built.add(stage.key)
                if not stage.reused:
                    took[stage.stage].append(stage.seconds)
        total, workers = 0.0, max(1, self.counts()["running"])
        wanted = {
            key
            for job in self.plan.jobs
            if self.states[job.number].status not in _ENDED
            for key in job.stages
        }
        for key in wanted - built:
            part = self.plan.parts[key]
            if not part.missing:
                continue
            seconds = statistics.fmean(took[part.stage]) if took[part.stage] else part.seconds
            if seconds is None and part.computes:
                return None
            total += seconds or 0.0
        return total / workers

    def table(self) -> RenderableType:
        """Jobs by state, those that run with their stage, and the time left."""
        table = Table(box=None, pad_edge=False)
        running = [job for job in self.plan.jobs if self.states[job.number].status == "running"]
        more = len(running) - _SHOWN
        table.add_column("job", no_wrap=True)
        table.add_column("overrides")  # the one that gives way where the terminal is narrow
        table.add_column("stage", no_wrap=True)
        for job in running[:_SHOWN]:
            at = self.states[job.number].at or "starting"
            label = Text(self.plan.label(job), no_wrap=True, overflow="ellipsis")
            table.add_row(Path(job.folder).name, label, at)
        return Group(Text(self._summary()), table, *([Text(f"… and {more} more")] if more > 0 else []))

    def _summary(self) -> str:
        words = [f"{count} {state}" for state, count in sorted(self.counts().items())]
        left = self.left()
        words.append(f"{time.monotonic() - self._began:.0f} s")
        return ", ".join(words) + ("" if left is None else f", about {left:.0f} s left")

    def _line(self, job: PlannedJob, status: Status) -> str:
        ended = sum(state.status in _ENDED for state in self.states.values())
        text = f"[{ended}/{len(self.plan.jobs)}] {status.status:<9} {Path(job.folder).name}"
        text += f"  {self.plan.label(job)}"
        return text + (f"  {headline(status.error)}" if status.error else "")
