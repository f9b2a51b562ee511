"""Statistical power: the prompts that a question needs, and the difference that a number of them detects."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from punie.evals.scores import ROUNDING
from punie.results.crossed import Design
from punie.results.statistics import SEED, Z95, Paired

ALPHA, POWER = 0.05, 0.8
"""The chance to detect a difference where there is none, and where there is one."""
MOST = 100_000
"""Prompts or seeds beyond which none are suggested."""
_Z = 2.801585218112968
"""z_{1−α/2} + z_{power}."""
_FEWEST_PROMPTS = 6
"""With fewer, no sign-flip test reaches 5 %: 2/2⁵ is 0.0625."""
_DRAWS = 2_000
"""Mean squares sampled for a power, whose error is then about one point."""
_UNEVEN = 0.5
"""Standard deviation of a difference over prompts, over the difference: those that are always right or wrong
with both recipes share nothing of it. The model of tiny in ``benchmarks/power.py`` gives 0.45."""


def power(design: Design, difference: float, alpha: float = ALPHA) -> float:
    """The probability that :func:`~punie.results.crossed.crossed` finds a true difference significant.

    Over sampled mean squares, which for normal effects are independent multiples of χ² (Searle, Casella and
    McCulloch, "Variance Components", 1992, chapter 4), and the normal distribution of the estimate. The
    difference varies over prompts by at least ``_UNEVEN`` of it.
    """
    from scipy.special import ndtr

    uneven = max(design.by_prompt, (_UNEVEN * difference) ** 2 / design.sides)
    critical, deviation = _critical(replace(design, by_prompt=uneven), alpha)
    tails = ndtr((difference - critical) / deviation) + ndtr((-difference - critical) / deviation)
    return float(tails.mean())


def smallest_difference(design: Design, alpha: float = ALPHA) -> float | None:
    """Smallest true difference that a crossed comparison detects with 80 % power; None if even 1.0 is not.

    0.0 if nothing varies.
    """
    if design.prompts < _FEWEST_PROMPTS or power(design, 1.0, alpha) < POWER:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if power(design, middle, alpha) >= POWER else (middle, high)
    return high


def needed(design: Design, difference: float, what: str, alpha: float = ALPHA) -> int | None:
    """The prompts or the seeds with which a crossed comparison detects a difference with 80 % power.

    Args:
        design: The other number, and the variances.
        difference: The true one.
        what: ``prompts`` or ``seeds``.
        alpha: Of the test.

    Returns:
        None if no number up to ``MOST`` is enough, as no number of prompts is where the seeds vary too much.
    """

    def enough(number: int) -> bool:
        changed = replace(design, prompts=number) if what == "prompts" else replace(design, seeds=number)
        return power(changed, abs(difference), alpha) >= POWER

    low, high = 1, _FEWEST_PROMPTS if what == "prompts" else 2
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _critical(design: Design, alpha: float) -> tuple[NDArray[np.float64], float]:
    """Sampled differences from which on the test is significant, (draws,), and the estimate's deviation."""
    from scipy.special import stdtrit

    rng, prompts, seeds, sides = np.random.default_rng(SEED), design.prompts, design.seeds, design.sides
    over_prompts = sides * (design.by_prompt + design.rest / seeds) / prompts
    by_prompt = over_prompts * rng.chisquare(prompts - 1, _DRAWS) / (prompts - 1)
    variance = over_prompts + sides * design.by_seed / seeds
    freedom, by_seed, rest = by_prompt**2 / (prompts - 1), np.zeros(_DRAWS), np.zeros(_DRAWS)
    for _ in range(sides if seeds > 1 else 0):
        other, residual = (prompts - 1) * (seeds - 1), design.rest / (prompts * seeds)
        mean = design.by_seed / seeds + residual
        own = mean * rng.chisquare(seeds - 1, _DRAWS) / (seeds - 1)
        noise = residual * rng.chisquare(other, _DRAWS) / other
        freedom, by_seed, rest = (
            freedom + own**2 / (seeds - 1) + noise**2 / other,
            by_seed + own,
            rest + noise,
        )
    found = np.maximum(by_prompt + by_seed - rest, np.maximum(by_prompt, by_seed))
    degrees = np.maximum(found**2 / np.maximum(freedom, 1e-300), max(1.0, seeds - 1.0))
    return stdtrit(degrees, 1 - alpha / 2) * np.sqrt(found), max(math.sqrt(variance), 1e-12)


def minimum_detectable_effect(prompts: int, discordance: float) -> float:
    """Smallest true difference that a paired comparison of so many prompts detects with 80 % power.

    (z_{1−α/2} + z_{power})·√(discordance/prompts): Miller (2024, arXiv:2411.00640), section 5. With scores
    of 0 and 1 no difference exceeds the discordance: a result above it means that no true difference can be
    detected unless more prompts differ. ``discordance`` is :class:`Paired`'s.
    """
    return _Z * math.sqrt(discordance / prompts)


def prompts_paired(effect: float, discordance: float) -> int:
    """Prompts for which ``minimum_detectable_effect`` is at most this difference.

    Raises:
        ValueError: The effect is 0.
    """
    if effect == 0:
        raise ValueError("no number of prompts detects a difference of 0")
    return max(1, math.ceil(discordance * (_Z / effect) ** 2))


def detectable(test: Paired) -> tuple[float | None, int | None]:
    """The minimum detectable difference of a comparison, and the prompts needed for the difference found.

    Returns:
        None for the first if no prompt changed, or not even 1.0 is detected; for the second if there is no
        difference.
    """
    if not test.discordance:
        return None, None
    gap, prompts = test.difference.estimate, len(test.differences)
    smallest = minimum_detectable_effect(prompts, test.discordance)
    number = prompts_paired(gap, test.discordance) if abs(gap) > ROUNDING else None
    possible = smallest <= 1 and prompts >= _FEWEST_PROMPTS
    return smallest if possible else None, number and max(number, _FEWEST_PROMPTS)


def detectable_in_words(prompts: int, changed: int, difference: float, smallest: float | None) -> str:
    """A sentence, without its period, on the minimum detectable difference, beside the one found."""
    if not changed:
        return f"None of {prompts} prompts changed"
    words = smallest_in_words(smallest, f"{prompts} prompt{'s' * (prompts > 1)}")
    if smallest is None or abs(difference) <= ROUNDING:
        return words
    # The prompts needed fall with the square of the difference.
    number = math.ceil(prompts * (smallest / difference) ** 2)
    return f"{words}. Detecting {abs(difference):.3f} needs {number:,} prompts" if number > prompts else words


def smallest_in_words(smallest: float | None, of: str) -> str:
    """The minimum detectable difference of a number of prompts and seeds, given in words."""
    if smallest is None or smallest > 1:  # above 1 in results of earlier versions
        return f"Minimum detectable difference: none, not even 1.0 ({of}, 80 % power)"
    return f"Minimum detectable difference: {smallest:.2f} ({of}, 80 % power)"


def prompts_to_exclude(rate: float, threshold: float) -> int:
    """Prompts for which Wilson's interval around a rate no longer includes the threshold.

    z²·q(1−q)/(p−q)², which is Wilson's equation solved for n.

    Raises:
        ValueError: Rate and threshold are the same.
    """
    if rate == threshold:
        raise ValueError("no number of prompts excludes the rate itself")
    return max(1, math.ceil(Z95**2 * threshold * (1 - threshold) / (rate - threshold) ** 2))
