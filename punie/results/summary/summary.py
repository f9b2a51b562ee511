"""The summary of a set of runs: what is found, before it is shown."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from punie.evals.scores import METRICS
from punie.results.outcome import Job, concluded, each_by_itself, in_words
from punie.results.records import File, Named, Phase, Record, SweepOutcome
from punie.results.statistics import Interval
from punie.results.summary import axes, conclusions, findings, tables
from punie.results.summary.axes import Axis
from punie.results.summary.collect import RunScores, collect
from punie.results.summary.findings import Contrast, Finding, Recipe
from punie.results.sweep import SweepFacts
from punie.util.errors import DataError, PunieError


class RunRow(Record):
    """One run of a summary."""

    run: str
    """Its folder, relative to that of the summary."""
    name: str
    state: str
    reason: str | None
    """Why it has no score."""
    suite: Named | None
    unverified: str | None
    axes: dict[str, Any] | None
    """Its value on each axis; None if its config cannot be read."""
    scores: dict[str, Interval]
    """By metric, the mean over prompts."""
    prompts: int
    missing: int
    """Responses that are missing."""


class Summary(File):
    """summary.json: all that a summary shows, in every format."""

    VERSION = 3
    KIND = "a summary"

    title: str
    metric: str
    notes: tuple[str, ...]
    """What a reader has to know of the runs."""
    axes: tuple[Axis, ...]
    conclusions: tuple[str, ...]
    """Sentences."""
    outcome: SweepOutcome | None
    """What the outcomes of the runs' phase say of them; None without a common phase."""
    grid: tables.Grid
    findings: tuple[Finding, ...] = Field(alias="recipes")
    comparisons: tuple[Contrast, ...]
    tables: dict[str, tables.Table]
    """Those that have rows, by name."""
    runs: tuple[RunRow, ...]
    merged: int
    """Runs left out because another has the same responses."""
    sweep: SweepFacts | None = None
    """Of the summary that ends a sweep."""

    @property
    def outcome_in_words(self) -> list[str]:
        """The outcome in lines; none without a common phase."""
        return in_words(self.outcome) if self.outcome else []


def summarize(
    places: Sequence[Path],
    *,
    start: Path | None = None,
    by: Sequence[str] = (),
    metric: str | None = None,
    where: Sequence[str] = (),
    allow_mixed: bool = False,
) -> Summary:
    """Summarize the runs of some folders.

    Args:
        places: Run directories, sweep directories, or folders of them.
        start: The folder that paths to runs start from; None for the working folder.
        by: One or two axes for the table of scores; none for seeds and temperatures.
        metric: One of ``METRICS``; None for the score that the runs' phase is about, else strict.
        where: Conditions ``KEY=VALUE`` that a run has to meet.
        allow_mixed: Put runs on different suites side by side.

    Raises:
        PunieError: There are no such runs, they are of different suites, or an axis or metric is unknown.
    """
    every, merged = collect(places)
    runs = _chosen(axes.name_contents(every), where)
    finished = [run for run in runs if run.finished]
    if not allow_mixed:
        _require_one_suite(finished)
    phase = _phase(finished)
    metric = metric or (phase.score if phase and phase.score in METRICS else METRICS[0])
    prompts = [prompt for run in finished for prompt in (run.prompts or {}).values()]
    if finished and not any(prompt.scores.get(metric) for prompt in prompts):
        raise DataError(
            f"No run here has a {metric}.",
            next_step="run it with eval.lock.temperatures=[0.7], for instance" if metric == "lock" else None,
        )
    found = axes.find(run.config for run in runs)
    fields = [axes.resolve(key, found) for key in by]
    if len(fields) > 2 or len(set(fields)) < len(fields):
        raise PunieError("A table has one axis, or two different ones.", where="--by", found=", ".join(by))
    recipes = findings.recipes(runs, found)
    grid = tables.grid(runs, found, fields, metric)
    other = next(name for name in ("keyword", "strict") if name != metric)
    other = other if any(prompt.scores.get(other) for prompt in prompts) else None
    each_recipe, comparisons = findings.findings(recipes, metric), findings.contrasts(recipes, metric, other)
    shown = (
        tables.scores(grid, metric),
        tables.findings(each_recipe, metric),
        tables.contrasts(comparisons),
        tables.rates(recipes),
        tables.turns(recipes),
        tables.ships(recipes),
        tables.categories(recipes, metric),
        tables.taxonomy(recipes),
        tables.stability(recipes, metric),
        tables.gaps(runs),
    )
    return Summary(
        version=Summary.VERSION,
        title=", ".join(dict.fromkeys(run.name for run in runs if run.config)) or "no runs",
        metric=metric,
        runs=tuple(_row(run, found, start or Path.cwd()) for run in runs),
        merged=merged,
        axes=tuple(found),
        grid=grid,
        findings=tuple(each_recipe),
        comparisons=tuple(comparisons),
        tables={table.name: table for table in shown if table.rows},
        conclusions=(
            *conclusions.sentences(each_recipe, comparisons, metric, _threshold(phase, metric)),
            *conclusions.confounded(found, [run.config for run in finished]),
        ),
        outcome=None if where else _outcome(runs, recipes),
        notes=tuple(_notes(runs, found, merged, recipes)),
    )


def _row(run: RunScores, found: Sequence[Axis], start: Path) -> RunRow:
    scores = {metric: findings.interval(findings.table_of([run], metric)) for metric in METRICS}
    return RunRow(
        run=Path(os.path.relpath(run.folder, start)).as_posix(),
        name=run.name,
        state=run.state,
        reason=run.reason,
        suite=run.suite,
        unverified=run.unverified,
        axes={axis.key: run.config.comparable(axis.key) for axis in found} if run.config else None,
        scores={metric: score for metric, score in scores.items() if score},
        prompts=len(run.prompts or {}),
        missing=run.missing,
    )


def _chosen(runs: Sequence[RunScores], where: Sequence[str]) -> Sequence[RunScores]:
    """The runs that meet every condition (0 is 0.0, and null is None), and those that cannot be read."""
    found = axes.find(run.config for run in runs) if where else []
    for condition in where:
        key, equals, text = condition.partition("=")
        if not equals:
            raise PunieError("A condition is KEY=VALUE.", where="--where", found=condition)
        field = axes.resolve(key, found)
        there = axes.ordered({run.config.comparable(field) for run in runs if run.config})
        try:
            wanted = json.loads(text)
        except ValueError:
            wanted = text
        meant = [each for each in there if each == wanted or axes.shown(each) == text]
        if not meant:
            raise PunieError(
                f"No run has {field}={text}.",
                where="--where",
                found=", ".join(axes.shown(each) for each in there[:10]) or "no run that can be read",
            )
        runs = [run for run in runs if run.config is None or run.config.comparable(field) in meant]
    return runs


def _require_one_suite(runs: Sequence[RunScores]) -> None:
    suites = {
        run.suite.sha256: f"{run.suite.name} {run.suite.sha256[:12]} ({run.folder})"
        for run in runs
        if run.suite
    }
    if len(suites) > 1:
        raise DataError(
            "The runs are of different suites; their scores cannot be compared.",
            found="; ".join([*suites.values()][:5]),
            next_step="choose one with --where eval.suite=NAME, or put them side by side with --allow-mixed",
        )


def _phase(runs: Sequence[RunScores]) -> Phase | None:
    """The phase that all runs have; None if they differ."""
    phases = [run.config.phase for run in runs if run.config]
    return phases[0] if phases and all(each == phases[0] for each in phases) else None


def _outcome(runs: Sequence[RunScores], recipes: Sequence[Recipe]) -> SweepOutcome | None:
    """What the outcomes of a phase say of its runs; None if they are not all one phase's, on one model.

    A phase's sweep may have one recipe for each of its choices of ``lora``; more are not its sweep.
    """
    jobs = [
        Job(run.config, run.overrides, run.results if run.finished else None) for run in runs if run.config
    ]
    choices = {tuple(word for word in job.overrides if word.startswith("lora=")) for job in jobs}
    suites = {run.suite.sha256 for run in runs if run.suite}
    if not jobs or len(suites) > 1 or len(recipes) > len(choices):
        return None
    try:
        return concluded(jobs) or each_by_itself(jobs)
    except LookupError as error:
        why = f"the phase is about a score that a run does not have: {error}"
        return SweepOutcome(phase="of these runs", verdict="not known", why=why)


def _threshold(phase: Phase | None, metric: str) -> float | None:
    """The bound that the phase's criterion sets for the overall score."""
    criteria = phase.criteria if phase and phase.score == metric else ()
    return next((each.value for each in criteria if each.metric == "overall"), None)


def _notes(
    runs: Sequence[RunScores], found: Sequence[Axis], merged: int, recipes: Sequence[Recipe]
) -> list[str]:
    finished = [run for run in runs if run.finished]
    states = Counter(run.state for run in runs)
    numbers = ", ".join(f"{number} {state}" for state, number in states.items())
    notes = [f"{len(runs)} run{'s' * (len(runs) > 1)}: {numbers}."]
    if merged:
        notes.append(f"{merged} more are copies, or failed and were run again; they are not counted.")
    notes += [
        f"{axis.key} and {', '.join(axis.also)} change together; the tables show the first."
        for axis in found
        if axis.also
    ]
    temperatures = max((len(recipe.runs) for recipe in recipes), default=1)
    if left_out := findings.pairs_of(len(recipes), temperatures)[1]:
        notes.append(
            f"{len(recipes)} recipes: {left_out:,} pairs are not compared, only those with the first recipe."
        )
    if suites := dict.fromkeys(run.suite.name for run in runs if run.suite):
        notes.append(f"Suite: {', '.join(suites)}.")
    if missing := sum(run.missing for run in finished):
        notes.append(f"{missing} responses are missing (eval.allow_missing) and are not counted.")
    if unverified := sum(bool(run.unverified) for run in finished):
        notes.append(f"{unverified} runs are unverified: it is not certain which weights answered.")
    keys = [axis.key for axis in found]
    places = Counter(axes.values(run.config, keys) for run in finished if run.config)
    if same := sum(number for number in places.values() if number > 1):
        notes.append(
            f"{same} runs differ in no setting but in their keys (data, versions or device): see punie diff."
        )
    return notes
