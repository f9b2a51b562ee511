"""Statistical power: the prompts that a question needs, and the difference that a number of them detects."""

from __future__ import annotations

import math

from punie.evals.scores import ROUNDING
from punie.results.statistics import Z95, Paired

_Z = 2.801585218112968
"""z_{1−α/2} + z_{power}: 5 % to detect a difference where there is none, 80 % where there is one."""


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
        None for the first if no prompt changed, for the second if there is no difference.
    """
    if not test.discordance:
        return None, None
    gap = test.difference.estimate
    smallest = minimum_detectable_effect(len(test.differences), test.discordance)
    return smallest, prompts_paired(gap, test.discordance) if abs(gap) > ROUNDING else None


def detectable_in_words(prompts: int, difference: float, smallest: float | None) -> str:
    """A sentence, without its period, on the minimum detectable difference, beside the one found."""
    if smallest is None:
        return f"None of {prompts} prompts changed"
    words = f"Minimum detectable difference: {smallest:.2f} ({prompts} prompts, 80 % power)"
    # The prompts needed fall with the square of the difference.
    needed = math.ceil(prompts * (smallest / difference) ** 2) if abs(difference) > ROUNDING else 0
    return f"{words}. Detecting {abs(difference):.3f} needs {needed:,} prompts" if needed > prompts else words


def prompts_to_exclude(rate: float, threshold: float) -> int:
    """Prompts for which Wilson's interval around a rate no longer includes the threshold.

    z²·q(1−q)/(p−q)², which is Wilson's equation solved for n.

    Raises:
        ValueError: Rate and threshold are the same.
    """
    if rate == threshold:
        raise ValueError("no number of prompts excludes the rate itself")
    return max(1, math.ceil(Z95**2 * threshold * (1 - threshold) / (rate - threshold) ** 2))
