"""Intervals and tests for scores.

The unit is a prompt: responses to one prompt are not independent, so the repeats of a prompt are averaged
first, and repeating makes no interval narrower. Intervals are 95 % ones; scores are from 0.0 to 1.0.
Randomness has a fixed default seed, so that the same scores give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from punie.evals.scores import ROUNDING

Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""
SEED = 0
RESAMPLES = 10_000
EXACT_FLIPS = 20
"""Up to this many prompts that differ, every sign pattern is tried."""
_CHUNK = 1_000_000
"""Signs sampled at a time, to bound the memory."""

Table = Mapping[str, tuple[str, Mapping[int, Sequence[float]]]]
"""By prompt id, its category and, by training seed, a score for each repeat; a prompt may lack seeds."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two runs, a and b, on the same prompts."""

    difference: Interval
    """Mean of b minus a over prompts."""
    p_value: float
    """Two-sided, of the sign-flip test."""
    exact: bool
    """Every sign pattern was tried; otherwise random ones."""
    mcnemar: float | None
    """Two-sided p-value of the exact McNemar test; None if a prompt's score is not 0 or 1."""
    up: int
    """Prompts that score higher in b; ``down`` those that score lower."""
    down: int
    unchanged: int
    discordance: float
    """Mean squared difference of a prompt; with scores of 0 and 1 the share of prompts that differ."""
    differences: Mapping[str, float]
    """b minus a, by prompt id."""


@dataclass(frozen=True)
class SeedSpread:
    """The spread of a suite's score over training seeds."""

    prediction: Interval
    """Mean of the seeds, and the prediction interval for a new seed."""
    stdev: float
    """Standard deviation of the seeds' scores."""
    variance: float
    """Variance component of the seeds, without that of prompts and noise; 0.0 or more."""
    seeds: int
    prompts: int
    """Prompts with a score for every seed; the others are left out."""


def wilson(rate: float, count: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval for a rate of so many independent trials: prompts, not their repeats.

    Centre (p + z²/2n)/(1 + z²/n), half-width z·√(p(1−p)/n + z²/4n²)/(1 + z²/n): E. B. Wilson, "Probable
    Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927), 209-212. Not taken from
    ``scipy.stats``, which accepts whole numbers of successes only and takes most of a second to import.
    """
    scale = 1 + z * z / count
    centre = (rate + z * z / (2 * count)) / scale
    half = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count)) / scale
    # Rounding must not push an end past the rate itself, which at 0 and 1 is where the interval ends.
    return min(rate, centre - half), max(rate, centre + half)


def clustered_stderr(clusters: Sequence[Sequence[float]]) -> float | None:
    """Standard error of the mean of clustered scores; a cluster is the repeats of a prompt.

    √(C/(C−1) · Σ_c (Σ_i (s_ci − s̄))²) / N for C clusters and N scores: Miller, "Adding Error Bars to
    Evals" (2024, arXiv:2411.00640), section 2.2, with the correction for few clusters. None for a single
    cluster.
    """
    count = len(clusters)
    if count < 2:
        return None
    total = sum(map(len, clusters))
    mean = math.fsum(value for values in clusters for value in values) / total
    squares = math.fsum(math.fsum(value - mean for value in values) ** 2 for values in clusters)
    return math.sqrt(count / (count - 1) * squares) / total


def paired(
    a: Mapping[str, Sequence[float]],
    b: Mapping[str, Sequence[float]],
    *,
    flips: int = RESAMPLES,
    rng: int | np.random.Generator = SEED,
) -> Paired:
    """Compare two runs prompt by prompt.

    d_p is the difference of a prompt's mean scores. The sign-flip test is the share of sign patterns with
    a |Σ d_p| at least as large: of all patterns, or (hits + 1)/(flips + 1) (Phipson and Smyth, "Permutation
    P-values Should Never Be Zero", 2010). The interval is Bonett and Price's ("Adjusted Wald Confidence
    Interval for a Difference of Binomial Proportions Based on Paired Data", 2012), which adds one prompt
    with a difference of 1 and one of -1.

    Args:
        a: Scores by prompt id, one for each repeat or seed.
        b: The same prompts' scores in the other run.
        flips: Random sign patterns, where there are too many to try all.
        rng: Seed or generator.

    Raises:
        ValueError: The prompts differ, there are none, or a score is missing or not from 0.0 to 1.0.
    """
    if a.keys() != b.keys():
        other = sorted(a.keys() ^ b.keys())
        raise ValueError(f"{len(other)} prompts are in one run only: {', '.join(other[:5])}")
    if not a:
        raise ValueError("there are no prompts to compare")
    before, after = ({key: _mean(run[key]) for key in sorted(run)} for run in (a, b))
    found = {key: round(after[key] - before[key], 12) for key in before}  # rounding errors are no change
    changes = np.array([value for value in found.values() if value])
    up, down = int((changes > 0).sum()), int((changes < 0).sum())
    binary = all(value in (0.0, 1.0) for run in (before, after) for value in run.values())
    return Paired(
        difference=_bonett_price(list(found.values())),
        p_value=_sign_flip(changes, flips, np.random.default_rng(rng)),
        exact=len(changes) <= EXACT_FLIPS,
        mcnemar=mcnemar(up, down) if binary else None,
        up=up,
        down=down,
        unchanged=len(found) - len(changes),
        discordance=float((changes**2).sum()) / len(found),
        differences=found,
    )


def mcnemar(up: int, down: int) -> float:
    """Two-sided p-value of the exact McNemar test for prompts that went up and down.

    min(1, 2·P(X ≤ min(up, down))) with X binomial, n = up + down, p = ½: McNemar, "Note on the Sampling
    Error of the Difference Between Correlated Proportions or Percentages", 1947.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(up, down), up + down, 0.5)))


def prediction_interval(values: Sequence[float]) -> Interval | None:
    """Prediction interval for a new value: mean ± t·s·√(1 + 1/S).

    t is the 97.5 % point of Student's distribution with S−1 degrees of freedom: Hahn and Meeker,
    "Statistical Intervals", 1991, section 4.6. The ends may lie outside 0 to 1. None for fewer than two
    values, or for equal values.
    """
    from scipy.special import stdtrit

    count = len(values)
    if count < 2 or max(values) - min(values) < ROUNDING:
        return None
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(count - 1, 0.975)) * spread * math.sqrt(1 + 1 / count)
    return Interval(mean, mean - half, mean + half)


def seed_spread(table: Table) -> SeedSpread | None:
    """The variance component of training seeds, by moments, and the prediction interval for a new seed.

    σ̂² = (MS_seed − MS_prompt×seed)/P over P prompts, at least 0: Searle, Casella and McCulloch, "Variance
    Components", 1992, chapter 4, the crossed model with one score (the mean of its repeats) a cell.

    Returns:
        None for fewer than two seeds or two prompts that have them all, or if all seeds score the same.

    Raises:
        ValueError: A score is not from 0.0 to 1.0.
    """
    scores = complete(table)
    prompts, seeds = scores.shape
    by_seed = scores.mean(axis=0) if prompts else np.zeros(0)
    prediction = prediction_interval(by_seed.tolist())
    if prompts < 2 or prediction is None:
        return None
    rest = scores - scores.mean(axis=1, keepdims=True) - by_seed + scores.mean()
    mean_squares = prompts * by_seed.var(ddof=1), (rest**2).sum() / ((prompts - 1) * (seeds - 1))
    variance = max(0.0, float(mean_squares[0] - mean_squares[1]) / prompts)
    return SeedSpread(prediction, float(by_seed.std(ddof=1)), variance, seeds, prompts)


def pass_hat(attempts: Mapping[str, Sequence[float]]) -> dict[int, float]:
    """pass^k by k, the rate at which k attempts at a prompt, each 1.0 or 0.0, all succeed.

    The mean of C(c, k)/C(K, k) where c of a prompt's K attempts succeeded: Yao et al., "τ-bench" (2024,
    arXiv:2406.12045).

    Raises:
        ValueError: There are no attempts, prompts have different numbers of them, or one is not 0 or 1.
    """
    numbers = {len(values) for values in attempts.values()}
    if len(numbers) != 1 or 0 in numbers:
        raise ValueError(f"every prompt needs the same number of attempts, not {sorted(numbers)}")
    if any(value not in (0.0, 1.0) for values in attempts.values() for value in values):
        raise ValueError("an attempt scores 0 or 1")
    total = numbers.pop()
    passed = [int(sum(values)) for values in attempts.values()]
    sets = {k: math.comb(total, k) * len(passed) for k in range(1, total + 1)}
    return {k: sum(math.comb(c, k) for c in passed) / every for k, every in sets.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given.

    max over the smaller ones of (m − rank + 1)·p, at most 1: Holm, "A Simple Sequentially Rejective
    Multiple Test Procedure", 1979.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def complete(table: Table, prompts: Iterable[str] = ()) -> NDArray[np.float64]:
    """Means over repeats, (prompts, seeds), of the prompts that have every seed of the table.

    Args:
        table: Scores.
        prompts: Those to take; none for all.

    Raises:
        ValueError: A score is not from 0.0 to 1.0.
    """
    cells = {
        prompt: {seed: _mean(scores) for seed, scores in table[prompt][1].items() if scores}
        for prompt in sorted(prompts or table)
    }
    seeds = sorted({seed for by_seed in cells.values() for seed in by_seed})
    rows = [[found[seed] for seed in seeds] for found in cells.values() if len(found) == len(seeds)]
    return np.array(rows if seeds else [], dtype=np.float64).reshape(-1, max(1, len(seeds)))


def _mean(scores: Sequence[float]) -> float:
    """The mean of a prompt's repeats."""
    if not scores:
        raise ValueError("a prompt has no score")
    if not all(0 <= score <= 1 for score in scores):  # NaN is refused as well
        raise ValueError(f"a score is from 0 to 1, not {list(scores)}")
    return math.fsum(scores) / len(scores)


def _sign_flip(changes: NDArray[np.float64], flips: int, rng: np.random.Generator) -> float:
    """Two-sided p-value of the sign-flip test; changes are (prompts,), none of them 0."""
    if not len(changes):
        return 1.0
    seen = abs(float(changes.sum())) - ROUNDING
    if len(changes) <= EXACT_FLIPS:
        sums = changes[:1]  # the other sign of the first gives the same magnitudes
        for change in changes[1:]:
            sums = np.concatenate([sums + change, sums - change])
        return float((np.abs(sums) >= seen).mean())
    size, hits = max(1, _CHUNK // len(changes)), 0
    for start in range(0, flips, size):
        signs = rng.choice((-1.0, 1.0), size=(min(size, flips - start), len(changes)))
        hits += int((np.abs(signs @ changes) >= seen).sum())
    return (hits + 1) / (flips + 1)


def _bonett_price(differences: Sequence[float]) -> Interval:
    count = len(differences) + 2
    mean, centre = math.fsum(differences) / len(differences), math.fsum(differences) / count
    square = (math.fsum(value * value for value in differences) + 2) / count
    half = Z95 * math.sqrt((square - centre * centre) / count)
    return Interval(mean, max(-1.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)))


def tango(differences: Sequence[float], quantile: float = Z95) -> Interval:
    """The mean of paired differences of scores, and the interval of the differences a score test accepts.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design" (1998): for scores of 0 and 1 a test against a margin errs about as often as its
    level says, also where prompts change in one direction only. Means over repeats count as parts of a
    prompt, which makes it wider than need be. ``quantile`` is the normal distribution's.
    """
    count = len(differences)
    up = math.fsum(value for value in differences if value > 0)
    down = -math.fsum(value for value in differences if value < 0)

    def end(wanted: float) -> float:
        low, high = -1.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if _tango(up, down, count, middle) > wanted else (low, middle)
        return (low + high) / 2

    mean = (up - down) / count
    return Interval(mean, min(mean, end(quantile)), max(mean, end(-quantile)))


def _tango(up: float, down: float, count: int, difference: float) -> float:
    """The score statistic of a true difference; it falls as that rises."""
    if difference < 0:
        return -_tango(down, up, count, -difference)
    linear = (2 * count - up + down) * difference - up - down
    constant = -down * difference * (1 - difference)
    against = (math.sqrt(max(linear**2 - 8 * count * constant, 0.0)) - linear) / (4 * count)
    variance = count * (2 * against + difference * (1 - difference))
    gap = up - down - count * difference
    return gap / math.sqrt(max(variance, 1e-12))
