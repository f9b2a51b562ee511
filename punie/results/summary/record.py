"""The record of summary.json."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from punie.evals.scores import METRICS
from punie.results.records import File, Named, Record, SweepOutcome
from punie.results.summary import cells, tables
from punie.results.summary.axes import Axis
from punie.results.summary.collect import RunScores
from punie.results.summary.findings import Contrast, Finding
from punie.results.summary.summary import Summary
from punie.results.sweep import SweepFacts


class RunRow(Record):
    """One run of a summary."""

    run: str
    """Its folder, relative to the summary's."""
    name: str
    state: str
    reason: str | None
    suite: Named | None
    unverified: str | None
    axes: dict[str, Any] | None
    scores: dict[str, float]
    """By metric, the mean over prompts."""
    prompts: int
    missing: int

    @classmethod
    def of(cls, run: RunScores, axes: Sequence[Axis], start: Path) -> RunRow:
        """The row of a run."""
        scores = {metric: cells.cell([run], metric).score for metric in METRICS}
        return cls(
            run=relative(run.folder, start),
            name=run.name,
            state=run.state,
            reason=run.reason,
            suite=run.suite,
            unverified=run.unverified,
            axes={axis.key: run.config.comparable(axis.key) for axis in axes} if run.config else None,
            scores={metric: score.estimate for metric, score in scores.items() if score},
            prompts=len(run.prompts or {}),
            missing=run.missing,
        )


class SummaryFile(File):
    """summary.json: what ``punie summarize`` finds, in tables and as figures."""

    VERSION: ClassVar[int] = 2
    KIND = "a summary"

    title: str
    metric: str
    notes: tuple[str, ...]
    axes: tuple[Axis, ...]
    conclusions: tuple[str, ...]
    """Sentences."""
    outcome: SweepOutcome | None
    grid: tables.Grid
    recipes: tuple[Finding, ...]
    comparisons: tuple[Contrast, ...]
    tables: dict[str, tables.Table]
    runs: list[RunRow]
    merged: int
    sweep: SweepFacts | None = None
    """Of a sweep's own summary."""

    @classmethod
    def of(cls, summary: Summary, start: Path, sweep: SweepFacts | None = None) -> SummaryFile:
        """The record of a summary; ``start`` is the folder that paths to runs start from."""
        return cls(
            version=cls.VERSION,
            title=summary.title,
            metric=summary.metric,
            notes=summary.notes,
            axes=summary.axes,
            conclusions=summary.conclusions,
            outcome=summary.outcome,
            grid=summary.grid,
            recipes=summary.findings,
            comparisons=summary.comparisons,
            tables={table.name: table for table in summary.tables},
            runs=[RunRow.of(run, summary.axes, start) for run in summary.runs],
            merged=summary.merged,
            sweep=sweep,
        )


def relative(path: Path, start: Path) -> str:
    """A path from another folder, with slashes."""
    return Path(os.path.relpath(path, start)).as_posix()
