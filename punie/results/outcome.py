"""What a phase's sweep means by what was decided before it ran, and whether the figures can carry that.

A metric of a sweep is a figure over its jobs:

- ``seeds_reaching_criteria``: seeds whose jobs all meet the phase's criteria.
- ``<lora>_at_temperature_<t>``: mean overall score of the jobs with that choice of ``lora`` at that
  temperature.
- any metric of one run, such as ``overall``: its mean over the jobs.

Each comes with the range it may lie in: by Wilson's interval for the suite's prompts, and with jobs that
are missing counted either way. Where the whole range has one verdict, the verdict is supported; else the
suite is too small to tell, or, as long as jobs are missing, nothing is decided.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from punie.results.decisions import decide
from punie.results.statistics import wilson
from punie.results.verdict import fits, judge, metric, prompts

Ran = tuple[Mapping[str, Any], Sequence[str], Mapping[str, Any] | None]
"""A job's config, its overrides, and its results.json; None if it did not finish."""
_AT = re.compile(r"(?P<choice>\w+)_at_temperature_(?P<temperature>[\d.]+)")


OPEN = "open"
"""The verdict as long as jobs are missing that could change it: no phase has an outcome of this name."""


@dataclass(frozen=True)
class Figure:
    """A metric of a sweep."""

    value: float | None
    """None if no job that finished gives it."""
    low: float
    high: float
    about: str
    """What it was taken from, in words."""
    missing: int = 0
    """Jobs that it would need and that did not finish."""


def outcome(jobs: Sequence[Ran]) -> dict[str, Any] | None:
    """The outcome of a phase that is a sweep.

    Returns:
        ``phase``, ``verdict``, ``supported``, and ``why``; None if the jobs have no such phase in common.
    """
    phase = jobs[0][0]["phase"]
    if not phase or not phase["sweep"] or any(config["phase"] != phase for config, *_ in jobs):
        return None
    figures: dict[str, Figure] = {}
    found: dict[str, Any] = {"phase": phase["id"], "verdict": OPEN, "supported": False, "figures": {}}
    for rule in phase["outcomes"]:
        name = rule["metric"]
        if name not in figures:
            figures[name] = _figure(name, phase, jobs)
            found["figures"][name] = {
                "value": figures[name].value, "interval": [figures[name].low, figures[name].high],
            }  # fmt: skip
    for rule in phase["outcomes"]:
        figure = figures[rule["metric"]]
        if figure.value is not None and fits(rule, figure.value):
            supported = fits(rule, figure.low) and fits(rule, figure.high)
            open_still = bool(figure.missing) and not supported
            carried = "all of that has this verdict" if supported else "the suite is too small to tell"
            if open_still:
                carried = f"{figure.missing} job{'s are' if figure.missing > 1 else ' is'} missing"
            return found | {
                "verdict": OPEN if open_still else rule["verdict"],
                "supported": supported,
                "why": f"{rule['metric']} is {figure.value:.3g}, and may lie between {figure.low:.3g} and "
                f"{figure.high:.3g} ({figure.about}): {carried}",
            }
    return found | {"why": "; ".join(f"{name}: {figure.about}" for name, figure in figures.items())}


def concluded(jobs: Sequence[Ran]) -> dict[str, Any] | None:
    """:func:`outcome`, and as ``next`` where in the tree of phases it leads; None in there: nowhere yet."""
    found = outcome(jobs)
    if found is None:
        return None
    config, overrides, _ = jobs[0]
    decision = decide(config["phase"], found["verdict"], overrides)
    return found | {"next": None if decision is None else str(decision)}


def each_by_itself(jobs: Sequence[Ran]) -> dict[str, Any] | None:
    """What runs of a phase that is no sweep say of it, each judged by itself.

    Returns:
        ``phase``, ``verdict``, ``why`` and ``next`` as :func:`concluded` has them: the outcome and the step
        that all of the runs agree on. None if they have no such phase in common.
    """
    phase = jobs[0][0]["phase"]
    if not phase or phase["sweep"] or any(config["phase"] != phase for config, *_ in jobs):
        return None
    judged = [judge(result["scores"], phase) for *_, result in jobs if result is not None]
    outcomes = {each["outcome"] for each in judged}
    met = sum(bool(each["passed"]) for each in judged)
    why = (
        f"{met} of {len(judged)} runs meet all of its criteria" if phase["criteria"] else "it has no criteria"
    )
    if len(judged) == 1:
        why = judged[0]["summary"].removeprefix(f"phase {phase['id']}: ")
    if missing := len(jobs) - len(judged):
        why += f"; {missing} have no score"
    agreed = outcomes.pop() if len(outcomes) == 1 else None
    decision = decide(phase, agreed, jobs[0][1])
    verdict = agreed or ("the runs do not agree" if outcomes else OPEN if not judged else None)
    if verdict is None:
        verdict = "criteria met" if met == len(judged) else "criteria missed"
    return {
        "phase": phase["id"],
        "verdict": verdict,
        "why": why,
        "next": None if decision is None else str(decision),
    }


def in_words(found: Mapping[str, Any]) -> list[str]:
    """An outcome in lines: the verdict, why, and what to do next."""
    lines = [f"phase {found['phase']}: {found['verdict']}", found["why"]]
    return [*lines, f"next: {found['next']}"] if found["next"] else lines


def _figure(name: str, phase: Mapping[str, Any], jobs: Sequence[Ran]) -> Figure:
    if name == "seeds_reaching_criteria":
        return _seeds(phase, jobs)
    if at := _AT.fullmatch(name):
        choice, temperature = at["choice"], float(at["temperature"])
        return _mean(
            "overall", phase, jobs,
            lambda config, overrides: f"lora={choice}" in overrides
            and config["eval"]["temperature"] == temperature,
        )  # fmt: skip
    return _mean(name, phase, jobs, lambda _config, _overrides: True)


def _mean(
    name: str,
    phase: Mapping[str, Any],
    jobs: Sequence[Ran],
    chosen: Callable[[Mapping[str, Any], Sequence[str]], bool],
) -> Figure:
    of = [result for config, overrides, result in jobs if chosen(config, overrides)]
    values = [
        value
        for result in of
        if result is not None and (value := metric(result["scores"], phase["score"], name)) is not None
    ]
    if not values:
        return Figure(None, 0.0, 1.0, "no job that finished gives it")
    mean = sum(values) / len(values)
    count = max(prompts(result["scores"]["strict"]["overall"], result) for result in of if result is not None)
    low, high = wilson(mean, count)
    missing = len(of) - len(values)
    return Figure(mean, low, high, f"{len(values)} of {len(of)} jobs, {count} prompts", missing)


def _seeds(phase: Mapping[str, Any], jobs: Sequence[Ran]) -> Figure:
    """Seeds that reach the criteria, at least those that surely do and at most those that may."""
    by_seed: dict[int, list[Mapping[str, Any] | None]] = defaultdict(list)
    for config, _, result in jobs:
        by_seed[config["seed"]].append(result)
    reached = sure = possible = 0
    for results in by_seed.values():
        there = [result for result in results if result is not None]
        whole = len(there) == len(results)
        reached += whole and all(judge(result["scores"], phase)["passed"] for result in there)
        sure += whole and all(_criteria(result, phase, 0) for result in there)
        possible += all(_criteria(result, phase, 1) for result in there)
    missing = sum(result is None for *_, result in jobs)
    if missing == len(jobs):
        return Figure(None, 0.0, float(len(by_seed)), "no job finished")
    about = f"{len(by_seed)} seeds, each by its interval"
    return Figure(float(reached), float(sure), float(possible), about, missing)


def _criteria(result: Mapping[str, Any], phase: Mapping[str, Any], end: int) -> bool:
    """Whether every criterion holds at the lower (0) or upper (1) end of its figure's interval."""
    for criterion in phase["criteria"]:
        value = metric(result["scores"], phase["score"], criterion["metric"])
        if value is None:
            return False
        node: Any = result["scores"][phase["score"]]
        for part in criterion["metric"].split("."):
            node = node[part]
        bound = wilson(value, prompts(node, result))[end]
        if not (bound > criterion["value"] or (criterion["op"] == ">=" and bound >= criterion["value"])):
            return False
    return True
