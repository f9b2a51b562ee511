"""Means and differences with prompts and training seeds both random: variance, degrees of freedom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from punie.evals.scores import ROUNDING
from punie.results.statistics import Interval, Table, complete, wilson


@dataclass(frozen=True)
class Design:
    """Numbers and variance components of a crossed design, from which its power follows."""

    prompts: int
    seeds: int
    """Training seeds of each side; the fewest."""
    sides: int
    """2 for a difference between recipes, each with seeds of its own; else 1."""
    by_prompt: float
    """Variance over prompts; for a difference that of the interaction of prompt and side, for each side."""
    by_seed: float
    """Variance over seeds of a side's mean; 0 for one seed, where it is unknown."""
    rest: float
    """Residual variance of a score."""


@dataclass(frozen=True)
class Crossed:
    """A mean or a difference of means, with prompts and training seeds as random samples."""

    estimate: float
    stderr: float
    freedom: float
    """Degrees of freedom."""
    design: Design

    @property
    def quantile(self) -> float:
        """The 97.5 % point of Student's distribution."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, 0.975))

    @property
    def interval(self) -> Interval:
        """The estimate with its t interval."""
        half = self.quantile * self.stderr
        return Interval(self.estimate, self.estimate - half, self.estimate + half)

    @property
    def p_value(self) -> float:
        """Two-sided, of an estimate of 0; 0.0 where nothing varies but the estimate is not 0."""
        from scipy.special import stdtr

        if self.stderr < ROUNDING:
            return float(abs(self.estimate) < ROUNDING)
        return 2 * float(stdtr(self.freedom, -abs(self.estimate) / self.stderr))


def crossed(*sides: NDArray[np.float64]) -> Crossed | None:
    """A mean, or the difference of two means, with prompts and training seeds both as random samples.

    Scores are (prompts, seeds); a second side has the same prompts and seeds of its own. V_p, V_s and V_e are
    the variance of the estimate over prompts, over the seeds of each side, and of the residuals. The variance
    is V_p + V_s − V_e, but not less than V_p or V_s: the quasi-F of Cornfield and Tukey ("Average Values of
    Mean Squares in Factorials", 1956) for a crossed design. The degrees of freedom are Satterthwaite's ("An
    Approximate Distribution of Estimates of Variance Components", 1946).
    ``benchmarks/power.py`` measures the level. One seed a side is no random sample: V_s is then 0.

    Returns:
        None for fewer than two prompts.
    """
    count = len(sides[0])
    if count < 2:
        return None
    means = [scores.mean(axis=1) for scores in sides]
    gaps = means[-1] - means[0] if len(sides) > 1 else means[0]
    by_prompt = float(gaps.var(ddof=1)) / count
    by_seed, rest, freedom = [0.0], [0.0], by_prompt**2 / (count - 1)
    for scores, own in zip(sides, means, strict=True):
        seeds = scores.shape[1]
        if seeds > 1:
            effects = scores.mean(axis=0)
            squares = float(((scores - own[:, None] - effects + scores.mean()) ** 2).sum())
            by_seed.append(float(effects.var(ddof=1)) / seeds)
            rest.append(squares / ((count - 1) * (seeds - 1)) / (count * seeds))
            freedom += by_seed[-1] ** 2 / (seeds - 1) + rest[-1] ** 2 / ((count - 1) * (seeds - 1))
    over_seeds, residual = sum(by_seed), sum(rest)
    variance = max(by_prompt + over_seeds - residual, by_prompt, over_seeds)
    seeds, number = min(scores.shape[1] for scores in sides), len(sides)
    per_side = sum(scores.shape[1] for scores in sides) / number
    return Crossed(
        estimate=float(gaps.mean()),
        stderr=math.sqrt(variance),
        freedom=max(variance**2 / freedom, seeds - 1.0, 1.0) if freedom else count - 1.0,
        design=Design(
            prompts=count,
            seeds=seeds,
            sides=number,
            by_prompt=max(0.0, by_prompt - residual) * count / number,
            by_seed=max(0.0, over_seeds - residual) * per_side / number,
            rest=residual * count * per_side / number,
        ),
    )


def mean_interval(table: Table) -> Interval | None:
    """The mean over prompts with its interval over prompts and, with several seeds, over seeds.

    Wilson's interval for the number of independent trials that have the variance of :func:`crossed`,
    m(1−m)/V, and with Student's t for z: Dean and Pagano, "Evaluating Confidence Interval Methods for
    Binomial Proportions in Clustered Surveys", 2015. Prompts that lack a seed are left out.

    Returns:
        None for fewer than two prompts.

    Raises:
        ValueError: A score is not from 0.0 to 1.0.
    """
    found = crossed(complete(table))
    if found is None:
        return None
    mean, variance = min(1.0, max(0.0, found.estimate)), found.stderr**2
    if found.stderr < ROUNDING or not 0 < mean < 1:
        return Interval(mean, *wilson(mean, found.design.prompts))
    return Interval(mean, *wilson(mean, mean * (1 - mean) / variance, found.quantile))
