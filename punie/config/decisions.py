"""The part of the schema that is decided before a run: a phase, its criteria, and when a result may ship."""

from __future__ import annotations

from dataclasses import dataclass

from punie.config.option import neutral, option
from punie.evals.scores import SCORERS, SHIPPED_ON


@dataclass
class Criterion:
    """One pre-registered condition on a score."""

    metric: str = option("overall, or categories.<name>.")
    op: str = option("Comparison.", ">=", choices=(">=", ">"))
    value: float = option("Threshold, 0 to 1.", ge=0.0, le=1.0)


@dataclass
class Outcome:
    """What a result in a range means, decided before the run."""

    metric: str = option("overall, categories.<name>, or a figure of the sweep.")
    at_least: float | None = option("Lower bound, inclusive.", None)
    below: float | None = option("Upper bound, exclusive.", None)
    verdict: str = option("What the result then means.")
    next: str | None = option("The phase to run next, with overrides; null for none.", None, omit_if=None)


@dataclass
class Baseline:
    """Published figures to compare with."""

    source: str = option("Where the figures come from.")
    overall: float = option("Overall keyword score, 0 to 1.", ge=0.0, le=1.0)
    categories: dict[str, float] = option("Keyword score by category.", {})
    training_peak_gb: float | None = option("Peak memory of training, in GB.", None, gt=0.0)


@dataclass
class PhaseConfig:
    """An experiment recipe: its hypothesis and pre-registered criteria."""

    id: str = option("Short name, such as 43a.")
    title: str = option("One line.")
    hypothesis: str = option("What the phase sets out to show.")
    references: list[str] = option("What it builds on.", [])
    score: str = option("Score that the criteria are about.", "keyword", choices=tuple(SCORERS))
    baseline: Baseline | None = option("Published figures.", None)
    criteria: list[Criterion] = option("All must hold for the phase to pass.", [])
    outcomes: list[Outcome] = option("Verdicts by range; the first that fits applies.", [])
    sweep: bool = option("Meant to be run with -m.", False)


@dataclass(repr=False)
class ShipCriterion:
    """One condition on the change from the base to the result; it has a gain or a margin."""

    metric: str = option("What must not be worse, or must be better.", choices=SHIPPED_ON)
    gain: float | None = option("The change for the better must be larger.", None, ge=0.0, omit_if=None)
    margin: float | None = option("A change for the worse must be smaller.", None, gt=0.0, omit_if=None)

    def __repr__(self) -> str:
        """As in a file."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return f"{{{', '.join(f'{name}: {value}' for name, value in given.items())}}}"


@dataclass
class ShipConfig:
    """When the result of a fine-tune may replace its base; to be decided before the run."""

    name: str = neutral("Name shown in reports.", "none")
    criteria: list[ShipCriterion] = option("All must hold; none: no decision.", [])
