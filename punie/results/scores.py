"""From the scores of single answers to those of a suite: means, intervals and a count of the failures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from punie.evals.scorers import TAXONOMY
from punie.evals.scores import SCORERS
from punie.results.statistics import clustered_stderr, wilson


@dataclass(frozen=True)
class Scored:
    """The scores of one answer."""

    id: str
    """The sample's id; the same for all repeats of a prompt."""
    category: str
    """The sample's category."""
    scores: Mapping[str, float]
    """By name of the score, from 0.0 to 1.0."""
    taxonomy: str
    """What became of the answer."""
    wrapper: bool
    """Whether the answer holds the literal ``<tool_call>``."""


def summarize(rows: Sequence[Scored]) -> dict[str, Any]:
    """Means by score and category, intervals for what is binary, and the failures with an example each.

    Every mean is over answers, so a category weighs as much as it has prompts.

    Args:
        rows: One per answer; several with one id are repeats of a prompt.

    Returns:
        A dict for JSON: each score that all rows have, with ``overall`` and ``categories``;
        ``wrapper_rate``; ``taxonomy``, by name ``count`` and the ``example``'s id.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("there are no answers to summarize")
    categories: dict[str, list[Scored]] = defaultdict(list)
    for row in rows:
        categories[row.category].append(row)
    summary: dict[str, Any] = {}
    for score, scorer in SCORERS.items():
        if all(score in row.scores for row in rows):
            overall, *each = (
                _estimate(members, lambda row, score=score: row.scores[score], binary=scorer.binary)
                for members in (rows, *categories.values())
            )
            summary[score] = {"overall": overall, "categories": dict(zip(categories, each, strict=True))}
    summary["wrapper_rate"] = _estimate(rows, lambda row: row.wrapper, binary=True)
    summary["taxonomy"] = {
        name: {"count": len(ids), "example": ids[0]}
        for name in TAXONOMY
        if (ids := [row.id for row in rows if row.taxonomy == name])
    }
    return summary


def _estimate(rows: Sequence[Scored], value: Callable[[Scored], float], *, binary: bool) -> dict[str, Any]:
    clusters: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        clusters[row.id].append(float(value(row)))
    mean = math.fsum(value for values in clusters.values() for value in values) / len(rows)
    estimate: dict[str, Any] = {
        "mean": mean,
        "n": len(rows),
        "stderr": clustered_stderr(list(clusters.values())),
    }
    if binary:
        estimate["interval"] = list(wilson(mean, len(clusters)))
    return estimate
