"""The summary of a set of runs: what is found, before it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.evals.scores import METRICS
from punie.results.outcome import concluded, each_by_itself, in_words
from punie.results.summary import axes, tables, verdict
from punie.results.summary.axes import Axis, Recipe
from punie.results.summary.collect import UNREAD, Run, collect
from punie.util.errors import DataError, PunieError


@dataclass(frozen=True)
class Summary:
    """All that a summary shows, in every format."""

    title: str
    metric: str
    runs: tuple[Run, ...]
    merged: int
    """Runs left out because another tells the same."""
    axes: tuple[Axis, ...]
    recipes: tuple[Recipe, ...]
    grid: tables.Grid
    findings: tuple[verdict.Finding, ...]
    comparisons: tuple[verdict.Comparison, ...]
    tables: tuple[tables.Table, ...]
    """Those that have rows."""
    verdict: tuple[str, ...]
    outcome: Mapping[str, Any] | None
    """What was decided before the runs says of them, and the step in the tree of phases that follows."""
    notes: tuple[str, ...]
    """What a reader has to know of the runs."""

    @property
    def conclusion(self) -> list[str]:
        """The outcome in lines; none for runs that have no phase in common."""
        return in_words(self.outcome) if self.outcome else []

    @property
    def unread(self) -> list[Run]:
        """The runs that could not be read."""
        return [run for run in self.runs if run.state == UNREAD]


def summarize(
    places: Sequence[Path],
    *,
    by: Sequence[str] = (),
    metric: str | None = None,
    where: Sequence[str] = (),
    allow_mixed: bool = False,
) -> Summary:
    """Collate the runs of some folders.

    Args:
        places: Run directories, sweep directories, or folders of them.
        by: One or two axes for the table of scores; none for seeds and temperatures.
        metric: One of ``METRICS``; None for the score that the runs' phase speaks of, else strict.
        where: Conditions ``KEY=VALUE`` that a run has to meet.
        allow_mixed: Put runs on different suites side by side.

    Raises:
        PunieError: There are no such runs, they answered different suites, or an axis or metric is unknown.
    """
    collected = collect(places)
    runs = axes.name_contents(collected.runs)
    runs = _chosen(runs, where)
    finished = [run for run in runs if run.finished]
    _require_one_suite(finished, allow_mixed)
    phase = _phase(finished)
    metric = metric or (phase or {}).get("score") or METRICS[0]
    if finished and not any(each.scores.get(metric) for run in finished for each in run.answers.values()):
        raise DataError(
            f"No run here has a {metric}.", next_step="run it with eval.lock.temperatures=[0.7], for instance"
        )
    found = axes.find(runs)
    fields = [axes.resolve(key, found) for key in by]
    if len(fields) > 2 or len(set(fields)) < len(fields):
        raise PunieError("A table has one axis, or two different ones.", where="--by", found=", ".join(by))
    recipes = axes.recipes(runs, found)
    grid = tables.grid(runs, found, fields, metric)
    findings, comparisons = verdict.find(recipes, metric), verdict.compare(recipes, metric)
    shown = (
        tables.scores(grid, metric),
        tables.legend(recipes),
        verdict.findings_table(findings, metric),
        verdict.comparisons_table(comparisons),
        tables.categories(recipes, metric),
        tables.taxonomy(recipes),
        tables.stability(recipes, metric),
        tables.gaps(runs),
    )
    return Summary(
        title=", ".join(dict.fromkeys(run.name for run in runs if run.config)) or "no runs",
        metric=metric,
        runs=tuple(runs),
        merged=collected.merged,
        axes=tuple(found),
        recipes=tuple(recipes),
        grid=grid,
        findings=tuple(findings),
        comparisons=tuple(comparisons),
        tables=tuple(table for table in shown if table.rows),
        verdict=tuple(verdict.sentences(findings, comparisons, metric, _threshold(phase, metric))),
        outcome=None if where else _outcome(runs, recipes),
        notes=tuple(_notes(runs, found, collected.merged)),
    )


def _chosen(runs: Sequence[Run], where: Sequence[str]) -> list[Run]:
    """The runs that meet every condition; those that cannot be read stay, for nobody knows."""
    found = axes.find(runs) if where else []
    for condition in where:
        key, equals, text = condition.partition("=")
        if not equals:
            raise PunieError("A condition is KEY=VALUE.", where="--where", found=condition)
        field = axes.resolve(key, found)
        wanted = _matcher(text)
        kept = [run for run in runs if not run.config or wanted(axes.value(run, field))]
        if not any(run.config for run in kept):
            there = axes.sort({axes.value(run, field) for run in runs if run.config})
            raise PunieError(
                f"No run has {field}={text}.",
                where="--where",
                found=", ".join(axes.shown(each) for each in there[:10]) or "no run that can be read",
            )
        runs = kept
    return list(runs)


def _matcher(text: str) -> Callable[[object], bool]:
    """Whether a value is what was written: 0 is 0.0, and null is nothing."""
    try:
        wanted = json.loads(text)
    except ValueError:
        wanted = text
    return lambda each: each == wanted or axes.shown(each) == text


def _require_one_suite(runs: Sequence[Run], allow_mixed: bool) -> None:
    suites = {run.suite: run for run in runs}
    if len(suites) > 1 and not allow_mixed:
        names = [f"{suite[0]} {suite[1][:12]} ({run.folder})" for suite, run in suites.items() if suite]
        raise DataError(
            "The runs answered different suites; their scores do not belong in one table.",
            found="; ".join(names[:5]),
            next_step="choose one with --where eval.suite=NAME, or put them side by side with --allow-mixed",
        )


def _phase(runs: Sequence[Run]) -> dict | None:
    """The phase that all runs have; None if they differ."""
    phases = [run.config.get("phase") for run in runs]
    return phases[0] if phases and phases[0] and all(each == phases[0] for each in phases) else None


def _outcome(runs: Sequence[Run], recipes: Sequence[Recipe]) -> dict[str, Any] | None:
    """What was decided before the runs says of them; None if they are not all one phase's, on one model.

    A phase's sweep may have one recipe for each of its choices of ``lora``; more are not its sweep.
    """
    known = [run for run in runs if run.config]
    choices = {tuple(word for word in run.overrides if word.startswith("lora=")) for run in known}
    if not known or len({run.suite for run in known if run.suite}) > 1 or len(recipes) > len(choices):
        return None
    jobs = [(run.config, run.overrides, run.judged if run.finished else None) for run in known]
    try:
        return concluded(jobs) or each_by_itself(jobs)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        words = f"a run's phase or scores have another shape: {type(error).__name__} {error}"
        return {"phase": "of these runs", "verdict": "not known", "why": words, "next": None}


def _threshold(phase: dict | None, metric: str) -> float | None:
    """What the phase's criterion asks of the overall score."""
    if phase is None or phase.get("score") != metric:
        return None
    asked = [each["value"] for each in phase.get("criteria", ()) if each["metric"] == "overall"]
    return float(asked[0]) if asked else None


def _notes(runs: Sequence[Run], found: Sequence[Axis], merged: int) -> list[str]:
    states: dict[str, int] = {}
    for run in runs:
        states[run.state] = states.get(run.state, 0) + 1
    notes = [
        f"{len(runs)} run{'s' if len(runs) > 1 else ''}: "
        + ", ".join(f"{number} {state}" for state, number in states.items())
        + "."
    ]
    if merged:
        notes.append(f"{merged} more tell the same as one of these and are not counted twice.")
    notes += [
        f"{axis.key} stands for {', '.join(axis.also)} as well: they change together."
        for axis in found
        if axis.also
    ]
    suites = dict.fromkeys(run.suite[0] for run in runs if run.suite)
    if suites:
        notes.append(f"Suite: {', '.join(suites)}.")
    missing = sum(run.missing for run in runs if run.finished)
    if missing:
        notes.append(f"{missing} answers are missing, as eval.allow_missing allows; they count for nothing.")
    unverified = [run for run in runs if run.finished and run.unverified]
    if unverified:
        notes.append(f"{len(unverified)} runs are unverified: which weights answered is not sure.")
    places: dict[tuple, int] = {}
    for run in runs:
        if run.finished:
            place = tuple(axes.value(run, axis.key) for axis in found)
            places[place] = places.get(place, 0) + 1
    same = [number for number in places.values() if number > 1]
    if same:
        notes.append(
            f"{sum(same)} runs differ in no setting and yet in their keys: data, versions or device; "
            "punie diff tells."
        )
    return notes
