"""The verdict of a run, by criteria and outcomes that were decided before it ran, and where it leads.

The tree of phases is data: every outcome of a preset names the phase that follows (``next``), or none.
"""

from __future__ import annotations

import math
import operator
import shlex
from collections.abc import Mapping, Sequence

from punie.config.presets import CARRIED, Preset, presets
from punie.evals.scores import ROUNDING, SCORERS
from punie.results.records import Checked, Criterion, Estimate, Evaluation, Outcome, Phase, Scores, Verdict
from punie.results.statistics import Z95

_OPERATORS = {">=": operator.ge, ">": operator.gt}
_LISTED = 4
"""Missed criteria that the summary names."""
_CARRIED = ("model", "data", "store", "runtime")
"""Groups whose overrides hold for the next phase too: what it is run on, not how it trains or asks."""


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


def decide(phase: Phase, verdict: str | None, overrides: Sequence[str] = ()) -> str | None:
    """Where in the tree of phases an outcome leads, in words: the command, and the way through the tree.

    The run's overrides that say what it ran on are carried to the next command.

    Returns:
        None if the phase has no outcome with this verdict.
    """
    outcome = next((each for each in phase.outcomes if each.verdict == verdict), None)
    if outcome is None:
        return None
    known = presets()
    path = place(phase.id, known)
    if not outcome.next:
        return f"nothing, the tree of phases ends here ({' → '.join(path)}: {outcome.verdict})"
    following, *own = outcome.next.split()
    runs = known[following].command if following in known else f"python -m punie +phase={following}"
    names = [override.partition("=")[0].lstrip("+~").split(".")[0] for override in overrides]
    own += [
        each
        for each, name in zip(overrides, names, strict=True)
        if name in _CARRIED or each.startswith(CARRIED)
    ]
    return f"{' '.join([runs, *map(shlex.quote, own)])}  ({' → '.join([*path, following])})"


def place(phase: str, known: Mapping[str, Preset]) -> list[str]:
    """The phases that lead to one, from the root of the tree, itself last."""
    path = [phase]
    while parents := [
        name
        for name, preset in known.items()
        if name not in path and any(o.next and o.next.split()[0] == path[0] for o in preset.phase.outcomes)
    ]:
        path.insert(0, parents[0])
    return path


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
