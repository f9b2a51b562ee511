"""The score of any set of runs: one number with its interval, or why there is none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from punie.results.statistics import Interval, Table, wilson
from punie.results.summary.collect import RunScores


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    score: Interval | None
    """Mean over prompts with Wilson's interval; None if no run here has finished."""
    prompts: int
    runs: int
    """Finished ones."""
    others: tuple[tuple[str, int], ...]
    """States of the runs that have no score, with their number."""

    def __str__(self) -> str:
        others = [
            state if number == 1 and not self.runs else f"{number} {state}" for state, number in self.others
        ]
        return ", ".join([*([show(self.score)] if self.score else []), *others]) or "–"


def cell(runs: Sequence[RunScores], metric: str) -> Cell:
    """The score of some runs, each prompt with the mean over its responses.

    The interval takes the prompts for the number of trials: repeats and seeds make it no narrower. Scores
    between 0 and 1 vary less than those of 0 and 1, so for them it errs on the wide side.
    """
    table = table_of(runs, metric)
    others = Counter(run.state for run in runs if not run.finished)
    return Cell(interval(table), len(table), sum(run.finished for run in runs), tuple(sorted(others.items())))


def interval(table: Table) -> Interval | None:
    """The mean over prompts with Wilson's interval; None without a score."""
    means = prompt_means(table)
    if not means:
        return None
    mean = math.fsum(means.values()) / len(means)
    return Interval(mean, *wilson(mean, len(means)))


def table_of(runs: Sequence[RunScores], metric: str) -> Table:
    """The scores of the finished runs by prompt, then by training seed.

    Runs that differ in the sampling seed only are repeats. A prompt of one suite is not that of another.
    """
    mixed = len({run.suite and run.suite.sha256 for run in runs if run.finished}) > 1
    found: dict[str, tuple[str, dict[int, list[float]]]] = {}
    for run in runs:
        if run.config and run.prompts:
            seed = run.config.seed
            for name, prompt in run.prompts.items():
                if values := prompt.scores.get(metric):
                    key = f"{run.suite.sha256}/{name}" if mixed and run.suite else name
                    by_seed = found.setdefault(key, (prompt.category, {}))[1]
                    by_seed.setdefault(seed, []).extend(values)
    return found


def prompt_means(table: Table) -> dict[str, float]:
    """By prompt, the mean over seeds of the means over repeats."""
    return {
        name: math.fsum(math.fsum(v) / len(v) for v in by_seed.values()) / len(by_seed)
        for name, (_, by_seed) in table.items()
    }


def by_category(table: Table) -> dict[str, Table]:
    """A table for each category, in the suite's order."""
    found: dict[str, dict] = {}
    for name, row in table.items():
        found.setdefault(row[0], {})[name] = row
    return dict(found)


def show(score: Interval) -> str:
    """``0.824 [0.64, 0.92]``."""
    return f"{score.estimate:.3f} [{score.low:.2f}, {score.high:.2f}]"
