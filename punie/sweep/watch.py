"""Shows a running sweep: one live table on a terminal, a line for each job that ends elsewhere."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from punie.results.records import Status
from punie.results.sweep import SweepPlan
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
    view, ended, console = View(plan, folder), threading.Event(), reporter.console
    waves = f"{len(plan.waves)} wave{'s' * (len(plan.waves) > 1)}"
    reporter.line(f"{len(plan.jobs)} jobs in {waves}: {shown(folder)}")

    def look() -> None:
        for line in view.look():
            if not console.is_terminal:
                reporter.line(line)

    def watch() -> None:
        while not ended.wait(_EVERY):
            look()

    live = Live(get_renderable=view.table, console=console, refresh_per_second=2, transient=True)
    thread = threading.Thread(target=watch, daemon=True)
    with live if console.is_terminal else nullcontext():
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            look()


class View:
    """The states of a sweep's jobs, as of the last look."""

    def __init__(self, plan: SweepPlan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.states: dict[int, Status] = {}
        self._began = time.monotonic()
        self.look()

    def look(self) -> list[str]:
        """Read the jobs that have not ended; returns a line for each that has ended since the last look."""
        lines = []
        for job in self.plan.jobs:
            if job.number in self.states and self.states[job.number].status in _ENDED:
                continue
            status = self.states[job.number] = job.status(self.folder)
            if status.status in _ENDED:
                ended = sum(state.status in _ENDED for state in self.states.values())
                words = [f"[{ended}/{len(self.plan.jobs)}] {status.status:<9} {Path(job.folder).name}"]
                words += [self.plan.label(job), *([headline(status.error)] if status.error else [])]
                lines.append("  ".join(words))
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
        left = [job for job in self.plan.jobs if self.states[job.number].status not in _ENDED]
        total = 0.0
        for part in (self.plan.parts[key] for key in {key for job in left for key in job.stages} - built):
            if part.missing:
                seconds = statistics.fmean(took[part.stage]) if took[part.stage] else part.seconds
                if seconds is None and part.computes:
                    return None
                total += seconds or 0.0
        return total / max(1, self.counts()["running"])

    def table(self) -> RenderableType:
        """Jobs by state, those that run with their stage, and the time left."""
        table = Table(box=None, pad_edge=False)
        table.add_column("job", no_wrap=True)
        table.add_column("overrides")  # the one that gives way where the terminal is narrow
        table.add_column("stage", no_wrap=True)
        running = [job for job in self.plan.jobs if self.states[job.number].status == "running"]
        for job in running[:_SHOWN]:
            label = Text(self.plan.label(job), no_wrap=True, overflow="ellipsis")
            table.add_row(Path(job.folder).name, label, self.states[job.number].at or "starting")
        left, more = self.left(), len(running) - _SHOWN
        words = [f"{count} {state}" for state, count in sorted(self.counts().items())]
        words.append(f"{time.monotonic() - self._began:.0f} s")
        words += [] if left is None else [f"about {left:.0f} s left"]
        return Group(Text(", ".join(words)), table, *([Text(f"… and {more} more")] if more > 0 else []))
