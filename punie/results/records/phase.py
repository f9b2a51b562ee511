"""A phase as decided before a run, and the verdicts of a run and of a sweep."""

from __future__ import annotations

from typing import Literal

from punie.results.records.base import Ends, Record


class Criterion(Record):
    """A bound that a run's score has to meet; fixed before the run."""

    metric: str
    """``overall`` or ``categories.NAME``."""
    op: Literal[">=", ">"] = ">="
    value: float


class Outcome(Record):
    """What a figure between two bounds means, and the phase that follows."""

    metric: str
    verdict: str
    at_least: float | None = None
    below: float | None = None
    next: str | None = None
    """The phase to run next, with overrides."""


class Baseline(Record):
    """Published figures."""

    source: str = ""
    overall: float | None = None
    categories: dict[str, float] = {}
    training_peak_gb: float | None = None


class Phase(Record):
    """A phase as composed: hypothesis, criteria and outcomes decided before the run."""

    id: str
    title: str = ""
    hypothesis: str = ""
    references: list[str] = []
    baseline: Baseline | None = None
    score: str = "keyword"
    """The score that criteria and outcomes are about."""
    criteria: list[Criterion] = []
    outcomes: list[Outcome] = []
    sweep: bool = False


class Checked(Criterion):
    """A criterion with what was found."""

    found: float | None
    """None where the suite has no such category, or responses are missing."""
    met: bool


class Verdict(Record):
    """What a phase's criteria and outcomes say of one run."""

    summary: str
    passed: bool | None
    """None without criteria."""
    criteria: list[Checked]
    outcome: str | None


class Figure(Record):
    """A metric over the jobs of a sweep, with the range it may lie in."""

    value: float | None
    """None if no job that finished gives it."""
    interval: Ends


class SweepOutcome(Record):
    """What the jobs of a phase say of it, by the outcomes decided before they ran."""

    phase: str
    verdict: str
    """The outcome's; ``open`` as long as jobs are missing that could change it."""
    supported: bool = False
    """Every value in the figure's range has this verdict."""
    figures: dict[str, Figure] = {}
    why: str
    next: str | None = None
    """The command that follows in the tree of phases."""
