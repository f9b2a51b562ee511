"""Whether the result of a fine-tune may replace its base, by criteria that a run records.

Each criterion bounds the change from the base to the result, paired by prompt or text. It is met if the 95 %
interval of the change lies beyond its limit: a test of superiority (a gain) or of non-inferiority (a margin)
with a nominal error of 2.5 %. SHIP needs all of them, and so no correction (R. L. Berger, "Multiparameter
Hypothesis Testing and Acceptance Sampling", 1982). HOLD needs one that is missed, by an interval widened for
the number of criteria (Bonferroni). Everything else is CANNOT TELL. ``benchmarks/power.py`` has the errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from punie.evals.scores import LIKELIHOODS, RATES
from punie.results.comparison import NothingToCompareError, compare
from punie.results.power import POWER
from punie.results.records import Likelihood, Sample, Ship, ShipRow
from punie.results.statistics import tango

if TYPE_CHECKING:
    from punie.config.decisions import ShipConfig

ALPHA = 0.025
"""One-sided error of a criterion that is met."""
FAMILY = 0.05
"""One-sided error of HOLD: that any criterion is called missed and is not."""
SMALLEST_GAIN = 0.01
"""Nats per token; an adapter that may have gained less leaves no share to keep."""

_Changes = Sequence[float] | str
"""Result minus base by prompt or text, or why there are none."""


def decide(
    ship: ShipConfig,
    base: Sequence[Sample],
    result: Sequence[Sample],
    texts: Mapping[str, Likelihood],
    target: str,
    doubts: Sequence[str] = (),
) -> Ship:
    """The decision, with its criteria.

    Args:
        ship: Name and criteria; at least one.
        base: The base's responses.
        result: Those of the result, to the same prompts.
        texts: By target, what each read of the held-out texts.
        doubts: Why it is not certain which weights responded; then no score decides.
        target: What the result is; of an adapter, nothing was quantized, and ``kept`` is not asked.
    """
    answered = f"identity unverified: {doubts[0]}" if doubts else _answered(base, result)
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
    # What turns that nobody reached expect is not on record: every conversation counts, or the outcome would
    # choose the prompts.
    asked = {sample.id for sample in base if sample.expect or sample.turns > 1}
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
    gain, least, most, _ = _interval(gains.tolist(), ALPHA, bounded=False)
    if least < SMALLEST_GAIN:
        words = f"{gain:.3f} nats per token (95 % interval {least:.2f} to {most:.2f}), too little to keep"
        return f"the adapter gains {words}"
    share = float(changes.mean()) / gain
    return [float(each) for each in share + (changes - share * gains) / gain]


def _row(metric: str, allowed: float, changes: _Changes, criteria: int) -> ShipRow:
    """One of so many criteria; ``allowed`` is the least change for the better."""
    rises = metric not in RATES
    limit = allowed if rises else 0.0 - allowed
    row = ShipRow(
        metric=metric,
        units=0 if isinstance(changes, str) else len(changes),
        change=None,
        interval=None,
        limit=limit,
        rises=rises,
        met=None,
        detectable=None,
    )
    if isinstance(changes, str) or len(changes) < 2:
        reason = changes if isinstance(changes, str) else "one alone has no interval"
        return row.model_copy(update={"reason": reason})
    bounded = metric not in (*LIKELIHOODS, "kept")
    change, low, high, smallest = _interval(changes, ALPHA, bounded)
    _, lowest, highest, _ = _interval(changes, min(ALPHA, FAMILY / criteria), bounded)
    met = True if (low > limit if rises else high < limit) else None
    beyond = high < limit if rises else low > limit
    if highest < limit if rises else lowest > limit:
        met = False
    found: dict[str, object] = {"change": change, "interval": (low, high), "met": met}
    if smallest <= 1 or not bounded:
        found["detectable"] = smallest
    if met is None and beyond:
        found["reason"] = f"beyond its limit, but with {criteria} criteria chance alone does that to one"
    elif met is None and bounded and (change > limit if rises else change < limit):
        # The smallest change falls with the square root of the number of prompts.
        needed = math.ceil(len(changes) * (smallest / abs(change - limit)) ** 2)
        found["needed"] = needed if needed > len(changes) else None
    return row.model_copy(update=found)


def _interval(changes: Sequence[float], alpha: float, bounded: bool) -> tuple[float, float, float, float]:
    """Mean, ends of the interval with this error at each end, and the smallest change that so many show with
    80 % power. Of scores, which lie from 0 to 1, Tango's; else Student's."""
    from scipy.special import ndtri, stdtrit

    count = len(changes)
    if bounded:
        quantile = float(ndtri(1 - alpha))
        found = tango(changes, quantile)
        error = (found.high - found.low) / (2 * quantile)
        return found.estimate, found.low, found.high, (quantile + float(ndtri(POWER))) * error
    mean = math.fsum(changes) / count
    error = float(np.std(changes, ddof=1)) / math.sqrt(count)
    quantile = float(stdtrit(count - 1, 1 - alpha))
    return (
        mean,
        mean - quantile * error,
        mean + quantile * error,
        (quantile + float(stdtrit(count - 1, POWER))) * error,
    )
