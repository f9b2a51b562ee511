"""The statistics of a set of runs: scores with intervals, recipes by temperature, comparisons of pairs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from punie.evals.scores import SCORERS
from punie.results.crossed import Crossed, crossed, mean_interval
from punie.results.power import detectable, smallest_difference
from punie.results.statistics import (
    Interval,
    Paired,
    SeedSpread,
    Table,
    complete,
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
"""Comparisons of recipes; where all pairs are more, each is compared with the first only."""
_BINARY = (*(name for name, scorer in SCORERS.items() if scorer.binary), "wrapper")


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
    """Its values on the other axes; empty without any."""
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
    """The comparisons that its p-values are adjusted for."""
    a: str
    b: str
    means: tuple[float, float]
    test: Paired
    """With these very seeds: prompts are random, the trained models are not."""
    crossed: Crossed | None
    """With prompts and seeds random: for recipes each has seeds of its own, for temperatures both have the
    same trained models. None for one seed, or fewer than two prompts."""
    p_value: float
    """The larger of the two tests': a difference has to hold in both."""
    adjusted: float
    """Holm's adjustment of it in its family."""
    adjusted_fixed: float
    """Holm's adjustment of the p-value with these very seeds."""
    detectable: float | None
    """Minimum detectable difference at 80 % power, with as many prompts and seeds; None if not even 1.0 is
    detected, or no prompt changed."""
    seeds: int
    """Training seeds in both; the fewer, if they have none in common and each is taken with its own."""
    beside: tuple[str, float, float] | None = None
    """Another score: its name, difference, and p-value, not adjusted."""

    @property
    def difference(self) -> Interval:
        """The difference found, with the interval of the test that decides."""
        return self.crossed.interval if self.crossed else self.test.difference


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
        Recipe(axes.in_words(keys, values), dict(sorted(groups[values].items())))
        for values in sorted(groups, key=axes.rank)
    ]


def findings(recipes: Sequence[Recipe], metric: str) -> list[Finding]:
    """Every recipe at every temperature."""
    return [
        _finding(recipe, temperature, table, metric)
        for recipe in recipes
        for temperature, table in recipe.tables(metric).items()
        if table
    ]


def contrasts(
    recipes: Sequence[Recipe], metric: str, beside: str | None = None, *, detect: bool = True
) -> list[Contrast]:
    """Each recipe's temperatures with its lowest, and all pairs of recipes at equal temperatures.

    Args:
        recipes: Those of ``recipes``.
        metric: The score that decides.
        beside: A score to show beside it.
        detect: Whether to compute the minimum detectable differences, which takes longer than the tests.
    """
    found: list[Contrast] = []
    for recipe in recipes:
        low, *others = ((f"temperature {shown(at)}", each) for at, each in recipe.tables(metric).items())
        family = f"temperatures{' of ' if recipe.label else ''}{recipe.label}"
        found += _compared(family, [(low, other) for other in others], detect)
    tables = [recipe.tables(metric) for recipe in recipes]
    sides = []
    for i, j in pairs_of(len(recipes), max(map(len, tables), default=1))[0]:
        for temperature in (each for each in tables[i] if each in tables[j]):
            names = [
                f"{recipes[k].label} at {shown(temperature)}" if len(tables[k]) > 1 else recipes[k].label
                for k in (i, j)
            ]
            sides.append(((names[0], tables[i][temperature]), (names[1], tables[j][temperature])))
    found += _compared("recipes", sides, detect)
    if beside is None:
        return found
    other = {(each.family, each.a, each.b): each for each in contrasts(recipes, beside, detect=False)}
    return [
        replace(each, beside=(beside, same.test.difference.estimate, same.p_value))
        if (same := other.get((each.family, each.a, each.b)))
        else each
        for each in found
    ]


def pairs_of(recipes: int, temperatures: int = 1) -> tuple[list[tuple[int, int]], int]:
    """The pairs of so many recipes that are compared, and the number of those that are not."""
    every = list(itertools.combinations(range(recipes), 2))
    if len(every) * temperatures <= MOST_COMPARISONS:
        return every, 0
    some = every[: min(recipes - 1, MOST_COMPARISONS)]  # the first comes first
    return some, len(every) - len(some)


def _finding(recipe: Recipe, temperature: float, table: Table, metric: str) -> Finding:
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
        interval=mean_interval(table),
        spread=seed_spread(table),
        by_seed=tuple(fmean(map(fmean, each.values())) for each in by_seed),
        pass_hat={k: fmean(hat[k] for hat in hats) for k in hats[0]},
        repeated_at_zero=all(len(set(values)) == 1 for values in attempts)
        if repeated and temperature == 0
        else None,
    )


def _compared(
    family: str, pairs: Sequence[tuple[tuple[str, Table], tuple[str, Table]]], detect: bool
) -> list[Contrast]:
    """Pairs of conditions, each with its name and scores; those without a common prompt are left out."""
    found = []
    for (a, before), (b, after) in pairs:
        own = _seeds(before), _seeds(after)
        common = own[0] & own[1]
        one, two = (_only(table, common or seeds) for table, seeds in zip((before, after), own, strict=True))
        one, two = ({name: side[name] for name in one if name in two} for side in (one, two))
        if not one:
            continue
        means, others = prompt_means(one), prompt_means(two)
        test = paired({name: [v] for name, v in means.items()}, {name: [v] for name, v in others.items()})
        seeds = len(common) or min(map(len, own))
        both = _crossed(one, two, same_models=family != "recipes") if seeds > 1 else None
        found.append(
            Contrast(
                family=family,
                a=a,
                b=b,
                means=(fmean(means.values()), fmean(others.values())),
                test=test,
                crossed=both,
                p_value=max(test.p_value, both.p_value) if both else test.p_value,
                adjusted=1.0,
                adjusted_fixed=1.0,
                detectable=_detectable(test, both) if detect else None,
                seeds=seeds,
            )
        )
    adjusted = holm([each.p_value for each in found]), holm([each.test.p_value for each in found])
    return [
        replace(each, adjusted=p, adjusted_fixed=fixed)
        for each, p, fixed in zip(found, *adjusted, strict=True)
    ]


def _crossed(one: Table, two: Table, *, same_models: bool) -> Crossed | None:
    """The comparison over prompts and seeds, of the prompts that have every seed on both sides."""
    seeds = _seeds(one), _seeds(two)
    whole = [name for name in one if one[name][1].keys() == seeds[0] and two[name][1].keys() == seeds[1]]
    if len(whole) < 2:
        return None
    before, after = complete(one, whole), complete(two, whole)
    return crossed(after - before) if same_models and seeds[0] == seeds[1] else crossed(before, after)


def _detectable(test: Paired, both: Crossed | None) -> float | None:
    if both is not None:
        return smallest_difference(both.design) if test.discordance else None
    return detectable(test)[0]


def _only(table: Table, seeds: Set[int]) -> dict[str, tuple[str, dict[int, Sequence[float]]]]:
    """The scores of some seeds; prompts that have none of them are left out."""
    return {
        name: (category, kept)
        for name, (category, by_seed) in table.items()
        if (kept := {seed: values for seed, values in by_seed.items() if seed in seeds and values})
    }


def _seeds(table: Table) -> set[int]:
    return {seed for _, by_seed in table.values() for seed in by_seed}
