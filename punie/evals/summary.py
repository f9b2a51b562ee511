"""From the scores of single answers to those of a suite: means, intervals and a count of the failures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from punie.evals.scorers import TAXONOMY

Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution: 95 % lie within this many standard errors."""


@dataclass(frozen=True)
class Scored:
    """The scores of one answer."""

    id: str
    """The sample's id; the same for all repeats of a prompt."""
    category: str
    """The sample's category."""
    keyword: float
    """The published rule's score, from 0.0 to 1.0."""
    strict: float
    """The strict score: 0.0 or 1.0."""
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
        A dict for JSON: ``keyword`` and ``strict``, each with ``overall`` and ``categories``;
        ``wrapper_rate``; ``taxonomy``, by name ``count`` and the ``example``'s id.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("there are no answers to summarize")
    categories: dict[str, list[Scored]] = defaultdict(list)
    for row in rows:
        categories[row.category].append(row)
    summary: dict[str, Any] = {
        score: {
            "overall": _estimate(rows, score),
            "categories": {name: _estimate(members, score) for name, members in categories.items()},
        }
        for score in ("keyword", "strict")
    }
    summary["wrapper_rate"] = _estimate(rows, "wrapper")
    summary["taxonomy"] = {
        name: {"count": len(ids), "example": ids[0]}
        for name in TAXONOMY
        if (ids := [row.id for row in rows if row.taxonomy == name])
    }
    return summary


def _estimate(rows: Sequence[Scored], score: str) -> dict[str, Any]:
    clusters: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        clusters[row.id].append(float(getattr(row, score)))
    mean = math.fsum(value for values in clusters.values() for value in values) / len(rows)
    estimate: dict[str, Any] = {
        "mean": mean,
        "n": len(rows),
        "stderr": clustered_stderr(list(clusters.values())),
    }
    if score != "keyword":
        estimate["interval"] = list(wilson(mean, len(clusters)))
    return estimate


def clustered_stderr(clusters: Sequence[Sequence[float]]) -> float | None:
    """Standard error of the mean of scores that come in clusters, here the repeats of a prompt.

    √(C/(C−1) · Σ_c (Σ_i (s_ci − s̄))²) / N for C clusters and N scores: Miller, "Adding Error Bars to
    Evals" (2024, arXiv:2411.00640), section 2.2, with the correction for few clusters. With one score a
    cluster it is the usual standard error. None for a single cluster, which tells nothing.
    """
    count = len(clusters)
    if count < 2:
        return None
    total = sum(map(len, clusters))
    mean = math.fsum(value for values in clusters for value in values) / total
    squares = math.fsum(math.fsum(value - mean for value in values) ** 2 for values in clusters)
    return math.sqrt(count / (count - 1) * squares) / total


def wilson(rate: float, count: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval for a rate.

    Centre (p + z²/2n)/(1 + z²/n), half-width z·√(p(1−p)/n + z²/4n²)/(1 + z²/n): E. B. Wilson, "Probable
    Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927), 209-212.

    Args:
        rate: The rate seen, from 0.0 to 1.0.
        count: Independent trials: prompts, not repeats of them, which errs on the wide side.
        z: Half-width in standard errors.

    Returns:
        The lower and the upper end.
    """
    scale = 1 + z * z / count
    centre = (rate + z * z / (2 * count)) / scale
    half = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count)) / scale
    # Rounding must not push an end past the rate itself, which at 0 and 1 is where the interval ends.
    return min(rate, centre - half), max(rate, centre + half)
