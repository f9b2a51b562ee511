"""Two evaluations on the same prompts, compared, as ``results.json`` holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from punie.results.comparison import NothingToCompareError, compare
from punie.results.power import reach


def pairs(
    before: str, after: str, a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The comparison of two evaluations, one entry for each score.

    Args:
        before: Name of the first.
        after: Name of the second.
        a: The first one's samples.jsonl.
        b: The second one's.

    Returns:
        Entries with ``before``, ``after``, ``score``; the number of ``prompts`` compared and of those
        ``left_out`` for want of an answer; ``difference``, after minus before, with its 95 % ``interval``;
        ``p_value`` of the sign-flip test and whether it is ``exact``; ``mcnemar`` where scores are 0 or 1;
        the prompts that went ``up`` and ``down``; the smallest difference that as many prompts would show
        at 80 % power, ``detectable`` (None where no prompt changed).
        Where no prompt has an answer in both, nothing is compared and the list is empty.
    """
    try:
        found = compare(a, b)
    except NothingToCompareError:
        return []
    return [
        {
            "before": before,
            "after": after,
            "score": score,
            "prompts": len(test.differences),
            "left_out": len(found.left_out),
            "difference": test.difference.estimate,
            "interval": [test.difference.low, test.difference.high],
            "p_value": test.p_value,
            "exact": test.exact,
            "mcnemar": test.mcnemar,
            "up": [key for key, change in test.differences.items() if change > 0],
            "down": [key for key, change in test.differences.items() if change < 0],
            "detectable": reach(test)[0],
        }
        for score, test in found.paired.items()
    ]
