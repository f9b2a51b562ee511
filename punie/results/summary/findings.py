"""The statistics of a set of runs: scores with intervals, recipes by temperature, paired comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from punie.evals.scores import SCORERS
from punie.results.power import detectable
from punie.results.statistics import (
    RESAMPLES,
    Interval,
    Paired,
    SeedSpread,
    Table,
    bootstrap,
    holm,
    paired,
    pass_hat,
    seed_spread,
    wilson,
)
from punie.results.summary import axes
from punie.results.summary.axes import Axis, shown
from punie.results.summary.collect import RunScores

MOST_COMPARISONS = 100
"""Recipes compared with the first one."""
_BINARY = (*(name for name, scorer in SCORERS.items() if scorer.binary), "wrapper")
_SAMPLED = 20_000_000
"""Scores sampled by all bootstrap intervals together, so that ten thousand runs take seconds."""
_FEWEST = 1_000


@dataclass(frozen=True)
class Cell:
    """The score of some runs: one number with its interval, or why there is none."""

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
        return ", ".join([*([in_text(self.score)] if self.score else []), *others]) or "–"


@dataclass(frozen=True)
class Recipe:
    """Runs that differ in nothing but seeds and temperature."""

    label: str
    """Its values on the other axes, or its number where there are several axes; empty without any."""
    values: tuple[tuple[str, str], ...]
    """Each of the other axes with its value, as they are shown."""
    runs: Mapping[float, Sequence[RunScores]]
    """By temperature, sorted."""

    def tables(self, metric: str) -> dict[float, Table]:
        """The scores at each temperature."""
        return {temperature: table_of(runs, metric) for temperature, runs in self.runs.items()}


@dataclass(frozen=True)
class Finding:
    """A recipe at a temperature."""

    recipe: str
    temperature: float
    seeds: tuple[int, ...]
    """Training seeds."""
    prompts: int
    mean: float
    interval: Interval | None
    """Confidence interval over prompts; with several seeds, over prompts and seeds."""
    spread: SeedSpread | None
    """None for one seed, and for seeds that all score the same."""
    by_seed: tuple[float, ...]
    """Each seed's score, in the order of the seeds."""
    pass_hat: Mapping[int, float]
    """By k; empty without sampled repeats."""
    repeated_at_zero: bool | None
    """Whether repeats at temperature 0 gave the same scores; None without such repeats."""


@dataclass(frozen=True)
class Contrast:
    """Two conditions on the same prompts."""

    family: str
    """The comparisons that its p-value is adjusted for."""
    a: str
    b: str
    means: tuple[float, float]
    test: Paired
    adjusted: float
    """Holm's p-value within its family."""
    detectable: float | None
    """Minimum detectable difference at 80 % power; None if no prompt changed."""
    needed: int | None
    """Prompts needed to detect the difference found; None for no difference."""
    seeds: int
    """Training seeds in both; the fewer, if they have none in common and each is taken with its own."""


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
    if not table:
        return None
    mean = fmean(prompt_means(table).values())
    return Interval(mean, *wilson(mean, len(table)))


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
    return {name: fmean(map(fmean, by_seed.values())) for name, (_, by_seed) in table.items()}


def in_text(score: Interval | None) -> str:
    """``0.824 [0.64, 0.92]``."""
    return "–" if score is None else f"{score.estimate:.3f} [{score.low:.2f}, {score.high:.2f}]"


def recipes(runs: Sequence[RunScores], found: Sequence[Axis]) -> list[Recipe]:
    """The runs by their values on all axes but seeds and temperature, sorted."""
    keys = [axis.key for axis in found if axis.key not in axes.LAST]
    groups: dict[tuple[Any, ...], dict[float, list[RunScores]]] = {}
    for run in runs:
        if run.config:
            by_temperature = groups.setdefault(axes.values(run.config, keys), {})
            by_temperature.setdefault(run.config.temperature, []).append(run)
    return [
        Recipe(
            f"recipe {number}" if len(keys) > 1 else axes.in_words(keys, values),
            tuple(zip(keys, map(shown, values), strict=True)),
            dict(sorted(groups[values].items())),
        )
        for number, values in enumerate(sorted(groups, key=axes.rank), 1)
    ]


def findings(recipes: Sequence[Recipe], metric: str) -> list[Finding]:
    """Every recipe at every temperature."""
    groups = [
        (recipe, temperature, table)
        for recipe in recipes
        for temperature, table in recipe.tables(metric).items()
        if table
    ]
    size = sum(len(by_seed) for *_, table in groups for _, by_seed in table.values())
    resamples = max(_FEWEST, min(RESAMPLES, _SAMPLED // max(size, 1)))
    return [_finding(*group, metric, resamples) for group in groups]


def contrasts(recipes: Sequence[Recipe], metric: str) -> list[Contrast]:
    """Each recipe's temperatures with its lowest, and each recipe with the first at equal temperatures."""
    found: list[Contrast] = []
    for recipe in recipes:
        low, *others = ((f"temperature {shown(at)}", each) for at, each in recipe.tables(metric).items())
        family = f"temperatures{' of ' if recipe.label else ''}{recipe.label}"
        found += _compared(family, [(low, other) for other in others])
    pairs = []
    first = recipes[0].tables(metric) if recipes else {}
    for other in recipes[1 : MOST_COMPARISONS + 1]:
        for temperature in (each for each in first if each in other.runs):
            at = f" at {shown(temperature)}" if len(other.runs) > 1 else ""
            table = table_of(other.runs[temperature], metric)
            pairs.append(((f"{recipes[0].label}{at}", first[temperature]), (f"{other.label}{at}", table)))
    return found + _compared("recipes", pairs)


def _finding(recipe: Recipe, temperature: float, table: Table, metric: str, resamples: int) -> Finding:
    seeds = sorted(_seeds(table))
    by_seed = [{name: v[seed] for name, (_, v) in table.items() if seed in v} for seed in seeds]
    attempts = [values for each in by_seed for values in each.values()]
    numbers = {len(values) for values in attempts}
    repeated = max(numbers) > 1
    sampled = repeated and temperature > 0 and len(numbers) == 1 and metric in _BINARY
    hats = [pass_hat(each) for each in by_seed] if sampled else [{}]
    return Finding(
        recipe=recipe.label,
        temperature=temperature,
        seeds=tuple(seeds),
        prompts=len(table),
        mean=fmean(prompt_means(table).values()),
        interval=bootstrap(table, shared_seeds=len(seeds) > 1, resamples=resamples),
        spread=seed_spread(table),
        by_seed=tuple(fmean(map(fmean, each.values())) for each in by_seed),
        pass_hat={k: fmean(hat[k] for hat in hats) for k in hats[0]},
        repeated_at_zero=all(len(set(values)) == 1 for values in attempts)
        if repeated and temperature == 0
        else None,
    )


def _compared(family: str, pairs: Sequence[tuple[tuple[str, Table], tuple[str, Table]]]) -> list[Contrast]:
    """Pairs of conditions, each with its name and scores; those without a common prompt are left out."""
    found = []
    for (a, before), (b, after) in pairs:
        own = _seeds(before), _seeds(after)
        common = own[0] & own[1]
        one, two = (
            {
                name: means
                for name, (_, v) in table.items()
                if (means := [fmean(v[seed]) for seed in v if not common or seed in common])
            }
            for table in (before, after)
        )
        one, two = ({name: side[name] for name in one if name in two} for side in (one, two))
        if not one:
            continue
        test = paired(one, two)
        smallest, needed = detectable(test)
        means = fmean(map(fmean, one.values())), fmean(map(fmean, two.values()))
        seeds = len(common) or min(map(len, own))
        found.append(Contrast(family, a, b, means, test, test.p_value, smallest, needed, seeds))
    adjusted = holm([each.test.p_value for each in found])
    return [replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True)]


def _seeds(table: Table) -> set[int]:
    return {seed for _, by_seed in table.values() for seed in by_seed}
