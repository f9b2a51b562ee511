"""The statistics of a set of runs: each recipe at each temperature, and the paired comparisons among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
)
from punie.results.summary.axes import Recipe, shown
from punie.results.summary.cells import prompt_means, table_of

MOST_COMPARISONS = 100
"""Recipes compared with the first one."""
_BINARY = (*(name for name, scorer in SCORERS.items() if scorer.binary), "wrapper")
_SAMPLED = 20_000_000
"""Scores sampled by all bootstrap intervals together, so that ten thousand runs take seconds."""
_FEWEST = 1_000


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


def findings(recipes: Sequence[Recipe], metric: str) -> list[Finding]:
    """Every recipe at every temperature."""
    groups = [
        (recipe, each, table_of(recipe.at(each), metric))
        for recipe in recipes
        for each in recipe.temperatures
    ]
    size = sum(len(by_seed) for *_, table in groups for _, by_seed in table.values())
    resamples = max(_FEWEST, min(RESAMPLES, _SAMPLED // max(size, 1)))
    return [_finding(recipe, each, table, metric, resamples) for recipe, each, table in groups if table]


def contrasts(recipes: Sequence[Recipe], metric: str) -> list[Contrast]:
    """Each recipe's temperatures with its lowest, and each recipe with the first at equal temperatures."""
    found: list[Contrast] = []
    for recipe in recipes:
        low, *others = recipe.temperatures
        family = f"temperatures{' of ' if recipe.label else ''}{recipe.label}"
        before = table_of(recipe.at(low), metric)
        found += _adjusted(
            [
                _contrast(
                    family,
                    {f"temperature {shown(low)}": before},
                    {f"temperature {shown(each)}": table_of(recipe.at(each), metric)},
                )
                for each in others
            ]
        )
    pairs = []
    for other in recipes[1 : MOST_COMPARISONS + 1]:
        for each in sorted({*recipes[0].temperatures} & {*other.temperatures}):
            at = f" at {shown(each)}" if len(other.temperatures) > 1 else ""
            a, b = (
                {f"{recipe.label}{at}": table_of(recipe.at(each), metric)} for recipe in (recipes[0], other)
            )
            pairs.append(_contrast("recipes", a, b))
    return found + _adjusted(pairs)


def _finding(recipe: Recipe, temperature: float, table: Table, metric: str, resamples: int) -> Finding:
    runs = [run for run in recipe.at(temperature) if run.finished]
    seeds = sorted({run.config.seed for run in runs if run.config})
    means = prompt_means(table)
    by_seed = [[sum(v[s]) / len(v[s]) for _, v in table.values() if s in v] for s in seeds]
    lists = [values for _, by_seed in table.values() for values in by_seed.values()]
    repeated = any(len(values) > 1 for values in lists)
    at_zero = temperature == 0 and repeated
    return Finding(
        recipe=recipe.label,
        temperature=temperature,
        seeds=tuple(seeds),
        prompts=len(means),
        mean=math.fsum(means.values()) / len(means),
        interval=bootstrap(table, shared_seeds=len(seeds) > 1, resamples=resamples),
        spread=seed_spread(table),
        by_seed=tuple(sum(values) / len(values) for values in by_seed if values),
        pass_hat={} if at_zero or not repeated or metric not in _BINARY else _pass_hat(table, seeds),
        repeated_at_zero=all(len(set(values)) == 1 for values in lists) if at_zero else None,
    )


def _pass_hat(table: Table, seeds: Sequence[int]) -> dict[int, float]:
    """Mean over training seeds; empty where prompts have different numbers of attempts."""
    by_seed = [{name: v[s] for name, (_, v) in table.items() if s in v} for s in seeds]
    if len({len(values) for attempts in by_seed for values in attempts.values()}) != 1:
        return {}
    found = [pass_hat(attempts) for attempts in by_seed]
    return {k: sum(each[k] for each in found) / len(found) for k in found[0]}


def _contrast(family: str, a: Mapping[str, Table], b: Mapping[str, Table]) -> Contrast | None:
    """Two conditions, each as its name and table; None if they have no prompt in common."""
    ((name_a, before),), ((name_b, after),) = a.items(), b.items()
    own = [{s for _, v in table.values() for s in v} for table in (before, after)]
    common = own[0] & own[1]
    one, two = (
        {
            name: [sum(v[s]) / len(v[s]) for s in v if not common or s in common]
            for name, (_, v) in table.items()
            if not common or common & v.keys()
        }
        for table in (before, after)
    )
    names = one.keys() & two.keys()
    if not names:
        return None
    one, two = ({name: run[name] for name in names} for run in (one, two))
    test = paired(one, two)
    smallest, needed = detectable(test)
    return Contrast(
        family=family,
        a=name_a,
        b=name_b,
        means=(_mean(one), _mean(two)),
        test=test,
        adjusted=test.p_value,
        detectable=smallest,
        needed=needed,
        seeds=len(common) or min(map(len, own)),
    )


def _adjusted(pairs: Sequence[Contrast | None]) -> list[Contrast]:
    found = [each for each in pairs if each is not None]
    adjusted = holm([each.test.p_value for each in found])
    return [replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True)]


def _mean(scores: Mapping[str, Sequence[float]]) -> float:
    return math.fsum(sum(v) / len(v) for v in scores.values()) / len(scores)
