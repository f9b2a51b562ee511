"""Whether the result of a fine-tune may replace its base, by criteria that were decided before the run.

Each criterion bounds the change from the base to the result, paired by prompt or text. It is met if the
95 % interval of the change lies beyond its limit, which is a test of superiority (a gain) or of
non-inferiority (a margin) at 2.5 %. SHIP needs all of them, so that its error is at most 2.5 % without a
correction (R. L. Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", 1982).
HOLD needs one that is missed, by an interval widened for the number of criteria, so that its error is at most
5 % (Bonferroni). Everything else is CANNOT TELL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from punie.evals.scores import LIKELIHOODS, RATES, ROUNDING
from punie.results.comparison import NothingToCompareError, compare
from punie.results.power import minimum_detectable_effect, prompts_paired
from punie.results.records import Likelihood, Sample, Ship, ShipRow
from punie.results.statistics import bonett_price

if TYPE_CHECKING:
    from punie.config.schema import ShipConfig

ALPHA = 0.025
"""One-sided error of a criterion that is met."""
FAMILY = 0.05
"""One-sided error of HOLD: that any criterion is called missed and is not."""
SMALLEST_GAIN = 0.01
"""Nats per token; a smaller gain of the adapter leaves no share to keep."""

_Changes = Sequence[float] | str
"""Result minus base by prompt or text, or why there are none."""


def decide(
    ship: ShipConfig,
    base: Sequence[Sample],
    result: Sequence[Sample],
    texts: Mapping[str, Likelihood],
    target: str,
) -> Ship:
    """The decision, with its criteria.

    Args:
        ship: Name and criteria; at least one.
        base: The base's responses.
        result: Those of the result, to the same prompts.
        texts: By target, what each read of the held-out texts.
        target: What the result is; of an adapter, nothing was quantized, and ``kept`` is not asked.
    """
    answered = _answered(base, result)
    rows = []
    asked = [each for each in ship.criteria if each.metric != "kept" or target == "quantized"]
    for criterion in asked:
        metric = criterion.metric
        if metric in LIKELIHOODS:
            changes: _Changes = _read(texts["base"], texts[target], metric)
        elif metric == "kept":
            changes = _kept(texts)
        else:
            changes = answered if isinstance(answered, str) else answered.get(metric) or _UNASKED[metric]
        allowed = criterion.gain if criterion.gain is not None else -(criterion.margin or 0.0)
        rows.append(_row(metric, allowed, changes, len(asked)))
    met = [row.met for row in rows]
    decision = "HOLD" if False in met else "SHIP" if met and None not in met else "CANNOT TELL"
    return Ship(preset=ship.name, decision=decision, rows=rows)


_UNASKED = {
    "task": "no item of the suite expects a call",
    "missed": "no item of the suite expects a call",
    "unwanted": "every item of the suite expects a call; eval=mixed and eval=mixed_native have others, too",
}
"""Why a suite does not give a rate."""


def _answered(base: Sequence[Sample], result: Sequence[Sample]) -> dict[str, list[float]] | str:
    """The changes of scores and rates by prompt."""
    try:
        found = compare(base, result)
    except NothingToCompareError as error:
        return str(error)
    if found.left_out:
        return f"{len(found.left_out)} prompts have no response"
    asked = {sample.id for sample in (*base, *result) if any(turn.expect for turn in sample.reached)}
    changes = {name: list(test.differences.values()) for name, test in found.paired.items()}
    task = [change for key, change in found.paired["strict"].differences.items() if key in asked]
    return {**changes, **({"task": task} if task else {})}


def _logprobs(read: Likelihood, kind: str) -> dict[str, float]:
    return {text.id: text.logprob for text in read.texts if text.kind == kind}


def _read(base: Likelihood, result: Likelihood, kind: str) -> list[float]:
    before, after = _logprobs(base, kind), _logprobs(result, kind)
    return [after[name] - before[name] for name in before]


def _kept(texts: Mapping[str, Likelihood]) -> _Changes:
    """What quantization adds to the adapter's gain, as a share of it; by example, linearised.

    The ratio of two means and its error: W. G. Cochran, "Sampling Techniques", 1977, section 6.4.
    """
    gains = np.array(_read(texts["base"], texts["adapter"], "validation"))
    changes = np.array(_read(texts["adapter"], texts["quantized"], "validation"))
    gain = float(gains.mean())
    if gain < SMALLEST_GAIN:
        return f"the adapter gains {gain:.3f} nats per token on validation examples, too little to keep"
    share = float(changes.mean()) / gain
    return [float(each) for each in share + (changes - share * gains) / gain]


def _row(metric: str, allowed: float, changes: _Changes, criteria: int) -> ShipRow:
    """One of so many criteria; ``allowed`` is the least change for the better."""
    rises = metric not in RATES
    limit = allowed if rises else 0.0 - allowed
    if isinstance(changes, str) or len(changes) < 2:
        reason = changes if isinstance(changes, str) else "there is one to compare"
        return ShipRow(
            metric=metric,
            units=0,
            change=None,
            interval=None,
            limit=limit,
            rises=rises,
            met=None,
            detectable=None,
            reason=reason,
        )
    bounded = metric not in (*LIKELIHOODS, "kept")
    change, low, high, error = _interval(changes, ALPHA, bounded)
    _, lowest, highest, _ = _interval(changes, min(ALPHA, FAMILY / criteria), bounded)
    met = True if (low > limit if rises else high < limit) else None
    if met is None and (highest < limit if rises else lowest > limit):
        met = False
    beyond = met is None and (high < limit if rises else low > limit)
    smallest = minimum_detectable_effect(1, error**2)
    # The distance to the limit has to be shown: of a margin, from no change; of a gain, from the one found.
    distance = abs(limit) if allowed < 0 else abs(change - limit)
    unsure = met is None and not beyond and distance > ROUNDING
    more = prompts_paired(distance, error**2 * len(changes)) if unsure else 0
    return ShipRow(
        metric=metric,
        units=len(changes),
        change=change,
        interval=(low, high),
        limit=limit,
        rises=rises,
        met=met,
        detectable=smallest,
        needed=more if more > len(changes) else None,
        reason=f"beyond its limit, but with {criteria} criteria chance alone does that to one"
        if beyond
        else None,
    )


def _interval(changes: Sequence[float], alpha: float, bounded: bool) -> tuple[float, float, float, float]:
    """Mean, ends of the interval with this error at each end, and the standard error.

    Of scores, which lie from 0 to 1, Bonett and Price's; else Student's.
    """
    from scipy.special import ndtri, stdtrit

    count = len(changes)
    if bounded:
        quantile = float(ndtri(1 - alpha))
        found = bonett_price(changes, quantile)
        return found.estimate, found.low, found.high, (found.high - found.low) / (2 * quantile)
    mean = math.fsum(changes) / count
    error = float(np.std(changes, ddof=1)) / math.sqrt(count)
    half = float(stdtrit(count - 1, 1 - alpha)) * error
    return mean, mean - half, mean + half, error
