"""The verdict of a run: its scores against criteria and outcomes that were decided before it ran."""

from __future__ import annotations

import math
import operator

from punie.evals.scores import ROUNDING, SCORERS
from punie.results.records import Checked, Criterion, Estimate, Evaluation, Outcome, Phase, Scores, Verdict
from punie.results.statistics import Z95

_OPERATORS = {">=": operator.ge, ">": operator.gt}
_LISTED = 4
"""Missed criteria that the summary names."""


def judge(scores: Scores, phase: Phase | None) -> Verdict:
    """What a phase's criteria and outcomes say of a run's scores."""
    if phase is None:
        return Verdict(summary="no pass/fail criteria defined", passed=None, criteria=[], outcome=None)
    rows = [_check(criterion, scores.find(phase.score, criterion.metric)) for criterion in phase.criteria]
    missed = [row for row in rows if not row.met]
    outcome = next((each.verdict for each in phase.outcomes if _applies(each, scores, phase.score)), None)
    if not rows:
        words = "no pass/fail criteria defined"
    elif missed:
        words = f"{len(missed)} of {len(rows)} criteria missed: {', '.join(map(_missed, missed[:_LISTED]))}"
        words += " ..." if len(missed) > _LISTED else ""
    else:
        words = f"all {len(rows)} criteria met" if len(rows) > 1 else "its criterion is met"
    return Verdict(
        summary=f"phase {phase.id}: {words}" + (f"; {outcome}" if outcome else ""),
        passed=not missed if rows else None,
        criteria=rows,
        outcome=outcome,
    )


def gate(scores: Scores, *, score: str, under: float, on: str) -> str | None:
    """Why a run fails its gate (``eval.fail_under``), or None if it passes.

    Args:
        scores: The run's.
        score: One of ``SCORERS``.
        under: What must be reached.
        on: ``estimate`` for the mean; ``lower_bound`` for the lower end of its 95 % interval, which for
            a score that is not only 0 and 1 is the mean less 1.96 standard errors.
    """
    overall = scores.scores[score].overall
    if overall.mean is None:
        return f"{score} has no overall score: {scores.missing.count} responses are missing"
    value, name = overall.mean, f"{score} {overall.mean:.3f}"
    if on == "lower_bound":
        if SCORERS[score].binary and overall.interval is not None:
            value = overall.interval[0]
        elif overall.stderr is None:
            return f"{name} is of one prompt, which has no interval"
        else:
            value -= Z95 * overall.stderr
        name = f"{name} with the lower end of its interval at {value:.3f}"
    return None if value + ROUNDING >= under else name


def fits(rule: Outcome, value: float) -> bool:
    """Whether a figure is within an outcome's bounds."""
    above = rule.at_least is None or value + ROUNDING >= rule.at_least
    return above and (rule.below is None or value + ROUNDING < rule.below)


def holds(criterion: Criterion, value: float) -> bool:
    """Whether a figure meets a criterion, rounding allowed for."""
    margin = ROUNDING if criterion.op == ">=" else -ROUNDING
    return _OPERATORS[criterion.op](value + margin, criterion.value)


def prompts(estimate: Estimate, evaluation: Evaluation) -> int:
    """Prompts that a mean is over; repeats of one prompt tell little more."""
    return math.ceil(estimate.n / evaluation.sampling.repeats)


def _check(criterion: Criterion, found: float | None) -> Checked:
    met = found is not None and holds(criterion, found)
    return Checked(metric=criterion.metric, op=criterion.op, value=criterion.value, found=found, met=met)


def _applies(outcome: Outcome, scores: Scores, score: str) -> bool:
    value = scores.find(score, outcome.metric)
    return value is not None and fits(outcome, value)


def _missed(row: Checked) -> str:
    found = "not measured" if row.found is None else f"{row.found:.3f}"
    return f"{row.metric.removeprefix('categories.')} {found} (needs {row.op} {row.value:g})"
