"""Two evaluations on the same prompts, compared prompt by prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from punie.evals.statistics import minimum_detectable_effect, paired


def pair(
    before: str, after: str, score: str, a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A comparison as ``results.json`` holds it: after minus before.

    Args:
        before: Name of the first.
        after: Name of the second.
        score: ``strict`` or ``keyword``.
        a: The first one's samples.jsonl.
        b: The second one's; prompts that lack an answer in either are left out and counted.

    Returns:
        ``before``, ``after``, ``score``, ``prompts``, ``left_out``, ``difference`` with its 95 %
        ``interval``, ``p_value`` of the sign-flip test and whether it is ``exact``, ``mcnemar`` where
        scores are 0 or 1, the prompts that went ``up`` and ``down``, and the smallest difference that as
        many prompts would show at 80 % power, ``detectable``. Figures are None if no prompt is left.
    """
    first, second = _by_prompt(a, score), _by_prompt(b, score)
    common = first.keys() & second.keys()
    found: dict[str, Any] = {"before": before, "after": after, "score": score, "prompts": len(common)}
    found["left_out"] = len(first.keys() | second.keys()) - len(common)
    if not common:
        figures = ("difference", "interval", "p_value", "exact", "mcnemar", "detectable")
        return found | dict.fromkeys(figures) | {"up": [], "down": []}
    test = paired({key: first[key] for key in common}, {key: second[key] for key in common})
    return found | {
        "difference": test.difference.estimate,
        "interval": [test.difference.low, test.difference.high],
        "p_value": test.p_value,
        "exact": test.exact,
        "mcnemar": test.mcnemar,
        "up": [key for key, change in test.differences.items() if change > 0],
        "down": [key for key, change in test.differences.items() if change < 0],
        "detectable": minimum_detectable_effect(len(common), test.discordance) if test.discordance else None,
    }


def _by_prompt(samples: Sequence[Mapping[str, Any]], score: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if sample["missing"] is None:
            found[sample["id"]].append(sample["scores"][score]["value"])
    return found
