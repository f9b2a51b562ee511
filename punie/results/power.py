"""How many prompts a question takes, and how small a difference a number of them shows."""

from __future__ import annotations

import math
from statistics import NormalDist

from punie.evals.scores import ROUNDING
from punie.results.statistics import Z95, Paired


def minimum_detectable_effect(
    prompts: int, discordance: float, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Smallest true difference that a paired comparison of so many prompts finds with this power.

    (z_{1−α/2} + z_{power})·√(discordance/prompts): Miller (2024, arXiv:2411.00640), section 5. With scores
    of 0 and 1 no difference exceeds the discordance: an answer above it means that no true difference
    can be found unless more prompts differ.

    Args:
        prompts: Prompts that both runs answer.
        discordance: As ``Paired.discordance``: with scores of 0 and 1 the share of prompts that differ.
        power: Chance to find the difference if it is there.
        alpha: Chance to find one if there is none.
    """
    return _reach(power, alpha) * math.sqrt(discordance / prompts)


def prompts_paired(effect: float, discordance: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Prompts for which ``minimum_detectable_effect`` is at most this difference.

    Raises:
        ValueError: The effect is 0.
    """
    if effect == 0:
        raise ValueError("no number of prompts shows a difference of 0")
    return max(1, math.ceil(discordance * (_reach(power, alpha) / effect) ** 2))


def reach(test: Paired) -> tuple[float | None, int | None]:
    """What belongs beside every comparison: how small a difference it shows, and the prompts this one takes.

    Args:
        test: The comparison.

    Returns:
        ``minimum_detectable_effect`` of its prompts, None if not one of them changed; and
        ``prompts_paired`` for the difference seen, None if there is none.
    """
    if not test.discordance:
        return None, None
    gap = test.difference.estimate
    detectable = minimum_detectable_effect(len(test.differences), test.discordance)
    return detectable, prompts_paired(gap, test.discordance) if abs(gap) > ROUNDING else None


def reach_in_words(prompts: int, difference: float, detectable: float | None) -> str:
    """A clause on :func:`reach`, for the figures of a comparison wherever they are kept.

    Args:
        prompts: Prompts compared.
        difference: The one seen.
        detectable: As :func:`reach` gives it.
    """
    if detectable is None:
        return f"not one of {prompts} prompts changed"
    words = f"{prompts} prompts that change as much as these show a difference from {detectable:.2f} on"
    # The prompts needed fall with the square of the difference.
    needed = math.ceil(prompts * (detectable / difference) ** 2) if abs(difference) > ROUNDING else 0
    return f"{words}; one of {abs(difference):.3f} takes {needed:,}" if needed > prompts else words


def prompts_to_exclude(rate: float, threshold: float) -> int:
    """Prompts for which Wilson's interval around a rate no longer holds the threshold.

    z²·q(1−q)/(p−q)², which is Wilson's equation solved for n.

    Raises:
        ValueError: Rate and threshold are the same.
    """
    if rate == threshold:
        raise ValueError("no number of prompts tells a rate from itself")
    return max(1, math.ceil(Z95**2 * threshold * (1 - threshold) / (rate - threshold) ** 2))


def _reach(power: float, alpha: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
