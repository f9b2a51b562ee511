"""A run's scores against what was decided before the run."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from punie.evals.scores import ROUNDING, SCORERS
from punie.results.statistics import Z95

_OPERATORS = {">=": operator.ge, ">": operator.gt}


def judge(scores: Mapping[str, Any], phase: Mapping[str, Any] | None) -> dict[str, Any]:
    """The verdict of a phase's criteria and outcomes.

    Args:
        scores: As ``evals.summary.summarize`` returns them.
        phase: The phase as plain values; None for a run without one.

    Returns:
        ``summary`` in a sentence, ``passed`` (None without criteria), ``criteria`` each with the figure
        found (None where the suite has no such category), ``outcome``.
    """
    if phase is None:
        return {
            "summary": "no phase, no criteria: a score to look at, not a verdict",
            "passed": None,
            "criteria": [],
            "outcome": None,
        }
    rows = []
    for criterion in phase["criteria"]:
        found = metric(scores, phase["score"], criterion["metric"])
        compare = _OPERATORS[criterion["op"]]
        margin = ROUNDING if criterion["op"] == ">=" else -ROUNDING
        met = found is not None and compare(found + margin, criterion["value"])
        rows.append({**criterion, "found": found, "met": met})
    missed = [row for row in rows if not row["met"]]
    passed = not missed if rows else None
    outcome = next(
        (
            o["verdict"]
            for o in phase["outcomes"]
            if (value := metric(scores, phase["score"], o["metric"])) is not None and fits(o, value)
        ),
        None,
    )
    words = f"phase {phase['id']}: "
    if passed is None:
        words += "it has no criteria"
    elif passed:
        words += f"all {len(rows)} criteria met" if len(rows) > 1 else "its criterion is met"
    else:
        words += f"{len(missed)} of {len(rows)} criteria missed: " + ", ".join(
            _missed(row) for row in missed[:4]
        )
        words += " ..." if len(missed) > 4 else ""
    if outcome:
        words += f"; {outcome}"
    return {"summary": words, "passed": passed, "criteria": rows, "outcome": outcome}


def gate(scores: Mapping[str, Any], *, score: str, under: float, on: str) -> str | None:
    """Why a run fails its gate (``eval.fail_under``), or None if it passes.

    Args:
        scores: As ``evals.summary.summarize`` returns them.
        score: One of ``SCORERS``.
        under: What must be reached.
        on: ``estimate`` for the mean; ``lower_bound`` for the lower end of its 95 % interval, which for
            a score that is not only 0 and 1 is the mean less 1.96 standard errors.
    """
    overall = scores[score]["overall"]
    if overall["mean"] is None:
        return f"{score} has no overall score: {scores['missing']['count']} answers are missing"
    value, name = overall["mean"], f"{score} {overall['mean']:.3f}"
    if on == "lower_bound":
        if SCORERS[score].binary:
            value = overall["interval"][0]
        elif overall["stderr"] is None:
            return f"{name} is of one prompt, which has no interval"
        else:
            value -= Z95 * overall["stderr"]
        name = f"{name} with the lower end of its interval at {value:.3f}"
    return None if value + ROUNDING >= under else name


def fits(rule: Mapping[str, Any], value: float) -> bool:
    """Whether a figure is within an outcome's bounds."""
    above = rule["at_least"] is None or value + ROUNDING >= rule["at_least"]
    return above and (rule["below"] is None or value + ROUNDING < rule["below"])


def prompts(scored: Mapping[str, Any], results: Mapping[str, Any]) -> int:
    """Prompts that a mean of a run's scores is over; repeats of one tell little more.

    Args:
        scored: The mean with its ``n``, the answers that there are.
        results: The run's.
    """
    return math.ceil(scored["n"] / results["sampling"]["repeats"])


def metric(scores: Mapping[str, Any], score: str, name: str) -> float | None:
    """A score's mean by dotted name (``overall``, ``categories.lsp``), or None if it is not there."""
    node: Any = scores[score]
    for part in name.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node.get("mean") if isinstance(node, Mapping) else None


def _missed(row: Mapping[str, Any]) -> str:
    found = "not measured" if row["found"] is None else f"{row['found']:.3f}"
    return f"{row['metric'].removeprefix('categories.')} {found} (needs {row['op']} {row['value']:g})"
