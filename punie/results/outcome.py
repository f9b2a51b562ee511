"""The verdict of a phase's sweep, by the outcomes decided before it ran, and whether the figures support it.

A metric of a sweep is a figure over its jobs:

- ``seeds_reaching_criteria``: training seeds (``lora.seed``) whose jobs all meet the phase's criteria.
- ``<lora>_at_temperature_<t>``: mean overall score of the jobs with that choice of ``lora`` at that
  temperature.
- any metric of one run, such as ``overall``: its mean over the jobs.

Each has the range it may lie in: Wilson's interval over the suite's prompts, with missing jobs counted either
way. A sweep has a verdict if the whole range has it; else these runs cannot tell.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from punie.results import records
from punie.results.config import RunConfig
from punie.results.records import Phase, Results, SweepOutcome
from punie.results.statistics import wilson
from punie.results.verdict import decide, fits, holds, judge, prompts

_AT = re.compile(r"(?P<choice>\w+)_at_temperature_(?P<temperature>[\d.]+)")
OPEN, CANNOT_TELL = "open", "cannot tell"
"""The verdict as long as jobs are missing that could change it, and where the range has several verdicts. No
phase has outcomes of these names."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep, as far as its outcome depends on it."""

    config: RunConfig
    overrides: Sequence[str]
    results: Results | None
    """None if it did not finish."""


@dataclass(frozen=True)
class _Figure:
    """A metric of a sweep: a value, None if no job that finished gives it, and the range it may lie in."""

    value: float | None
    low: float
    high: float
    about: str
    """What it was taken from, in words."""
    missing: int = 0
    """Jobs that it would need and that did not finish."""


def concluded(jobs: Sequence[Job]) -> SweepOutcome | None:
    """The outcome of a phase that is a sweep; None if the jobs have no such phase in common."""
    phase = _common_phase(jobs)
    if phase is None or not phase.sweep:
        return None
    figures = {rule.metric: _figure(rule.metric, phase, jobs) for rule in phase.outcomes}
    verdict, supported = OPEN, False
    why = "; ".join(f"{name}: {figure.about}" for name, figure in figures.items())
    for rule in phase.outcomes:
        figure = figures[rule.metric]
        if figure.value is None or not fits(rule, figure.value):
            continue
        supported = fits(rule, figure.low) and fits(rule, figure.high)
        if supported:
            verdict, support = rule.verdict, "the whole range has this verdict"
        elif figure.missing:
            support = f"{figure.missing} job{'s are' if figure.missing > 1 else ' is'} missing"
        else:
            verdict, support = CANNOT_TELL, f'"{rule.verdict}" is not certain, more prompts are needed'
        why = (
            f"{rule.metric} is {figure.value:.3g}, range {figure.low:.3g} to {figure.high:.3g} "
            f"({figure.about}): {support}"
        )
        break
    return SweepOutcome(
        phase=phase.id,
        verdict=verdict,
        supported=supported,
        figures={
            name: records.Figure(value=each.value, interval=(each.low, each.high))
            for name, each in figures.items()
        },
        why=why,
        next=decide(phase, verdict, jobs[0].overrides),
    )


def each_by_itself(jobs: Sequence[Job]) -> SweepOutcome | None:
    """The outcome that runs of a phase that is no sweep agree on, each judged by itself.

    Returns:
        None if they have no such phase in common.
    """
    phase = _common_phase(jobs)
    if phase is None or phase.sweep:
        return None
    judged = [judge(job.results, phase) for job in jobs if job.results is not None]
    outcomes, met = {each.outcome for each in judged}, sum(bool(each.passed) for each in judged)
    why = (
        f"{met} of {len(judged)} runs meet all criteria"
        if phase.criteria
        else "no pass/fail criteria defined"
    )
    if len(judged) == 1:
        why = judged[0].summary.removeprefix(f"phase {phase.id}: ")
    if missing := len(jobs) - len(judged):
        why += f"; {missing} have no score"
    if len(outcomes) > 1:
        verdict = "the runs do not agree"
    elif not judged:
        verdict = OPEN
    else:
        verdict = outcomes.pop() or ("criteria met" if met == len(judged) else "criteria missed")
    following = decide(phase, verdict, jobs[0].overrides)
    return SweepOutcome(phase=phase.id, verdict=verdict, why=why, next=following)


def in_words(found: SweepOutcome) -> list[str]:
    """An outcome in lines: the verdict, why, and the next step."""
    lines = [f"phase {found.phase}: {found.verdict}", found.why]
    return [*lines, f"next: {found.next}"] if found.next else lines


def _common_phase(jobs: Sequence[Job]) -> Phase | None:
    """The phase that all jobs have; None if they differ."""
    phase = jobs[0].config.phase
    return phase if all(job.config.phase == phase for job in jobs) else None


def _figure(name: str, phase: Phase, jobs: Sequence[Job]) -> _Figure:
    if name == "seeds_reaching_criteria":
        return _seeds(phase, jobs)
    if at := _AT.fullmatch(name):
        choice, temperature = f"lora={at['choice']}", float(at["temperature"])
        chosen = [job for job in jobs if choice in job.overrides and job.config.temperature == temperature]
        return _mean("overall", phase, chosen)
    return _mean(name, phase, jobs)


def _mean(metric: str, phase: Phase, jobs: Sequence[Job]) -> _Figure:
    found = [job.results for job in jobs if job.results is not None]
    values = [value for each in found if (value := each.find(phase.score, metric)) is not None]
    if not values:
        return _Figure(None, 0.0, 1.0, "no job that finished gives it")
    mean = sum(values) / len(values)
    count = max(prompts(each.scores["strict"].overall, each) for each in found)
    low, high = wilson(mean, count)
    about = f"{len(values)} of {len(jobs)} jobs, {count} prompts"
    return _Figure(mean, low, high, about, len(jobs) - len(values))


def _seeds(phase: Phase, jobs: Sequence[Job]) -> _Figure:
    """Training seeds that reach the criteria, at least those that surely do, at most those that may."""
    by_seed: dict[int, list[Results | None]] = defaultdict(list)
    for job in jobs:
        by_seed[job.config.seed].append(job.results)
    absent = sum(job.results is None for job in jobs)
    if absent == len(jobs):
        return _Figure(None, 0.0, float(len(by_seed)), "no job finished")

    def count(reaches: Callable[[Results], bool], *, missing: bool = False) -> float:
        """Seeds all of whose jobs do; ``missing`` says whether a job that is missing does."""
        found = [[missing if each is None else reaches(each) for each in own] for own in by_seed.values()]
        return float(sum(map(all, found)))

    return _Figure(
        count(lambda each: bool(judge(each, phase).passed)),
        count(lambda each: _criteria_hold(each, phase, end=0)),
        count(lambda each: _criteria_hold(each, phase, end=1), missing=True),
        f"{len(by_seed)} training seed{'s' * (len(by_seed) > 1)}, each by its interval",
        absent,
    )


def _criteria_hold(results: Results, phase: Phase, *, end: int) -> bool:
    """Whether every criterion holds at the lower (0) or upper (1) end of its figure's interval."""
    for criterion in phase.criteria:
        estimate = results.scores[phase.score].find(criterion.metric)
        if estimate is None or estimate.mean is None:
            return False
        if not holds(criterion, wilson(estimate.mean, prompts(estimate, results))[end]):
            return False
    return True
