"""Reads the runs below some folders, each condensed to what a summary needs.

A run that cannot be read is kept with the reason, and an unfinished one with its state, so that the tables
show a gap where there is one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from punie.evals.scores import ALWAYS, wrong_decision
from punie.results import files
from punie.results.config import RunConfig
from punie.results.records import Named, Record, Results, Scored, Ship, Status, Turns, Weights
from punie.results.run import CONFIG, PROVENANCE, RESULTS, SAMPLES, STATUS, Run
from punie.results.sweep import PLAN, PlannedJob, SweepPlan
from punie.store.references import MARKS
from punie.util.errors import DataError, PunieError
from punie.util.jsonl import MAX_LINE

FINISHED, INCOMPLETE, NOT_STARTED, UNREAD = "finished", "incomplete", "not started", "unread"
"""States beside those of status.json: finished with responses missing, only planned, not readable."""
_RUN_FILES = {STATUS, CONFIG, RESULTS, ".hydra"}
"""Any of them makes a folder a run's, or half of one."""
_LEFT_OUT: dict[str, Any] = {"lock": None, "targets": {}, "paired": [], "artifacts": {}}
"""Parts of results that grow with prompts; like the digests of tensors, no outcome of a phase needs them."""


@dataclass(frozen=True, slots=True)
class PromptScores:
    """The scores of one run's responses to one prompt."""

    category: str
    scores: Mapping[str, tuple[float, ...]]
    """By metric, a value for each repeat; of ``lock`` a single one. A metric without values is left out.
    Conversations have two more for each turn, by the names of ``turn_names``."""
    taxonomy: tuple[str, ...]


@dataclass(frozen=True)
class RunScores:
    """One run, condensed."""

    folder: Path
    state: str
    """``finished`` if its scores count."""
    reason: str | None = None
    """Why they do not."""
    config: RunConfig | None = None
    """None if it cannot be read."""
    evidence: str = ""
    """Key of the evaluation and digest of the responses; the same for copies of one evaluation."""
    base: str | None = None
    """Key of the base model."""
    suite: Named | None = None
    unverified: str | None = None
    """Why it is not certain which weights answered."""
    missing: int = 0
    """Responses that are missing."""
    prompts: Mapping[str, PromptScores] | None = None
    """By prompt id, in the suite's order; None without scores."""
    overrides: Sequence[str] = ()
    """Those that composed its config; only of a run with a phase, or of a planned job."""
    ship: Ship | None = None
    """The decision whether to ship, if it took one."""
    results: Results | None = None
    """Only of a run with a phase, without what a phase's outcome does not need."""

    @property
    def name(self) -> str:
        """The composed name."""
        return self.config.name if self.config and self.config.name else self.folder.name

    @property
    def finished(self) -> bool:
        """Its scores count."""
        return self.state == FINISHED


_Planned = PlannedJob | PunieError | None


class _Line(Record):
    """What a summary needs of a line of samples.jsonl."""

    id: str
    category: str
    expect: list[Any]
    missing: str | None
    wrapper: bool = False
    scores: dict[str, Scored] = Field(default_factory=dict)
    taxonomy: str = ""
    turn: Turns = 1
    turns: Turns = 1
    earlier: list[_Line] = Field(default_factory=list)


def collect(places: Sequence[Path]) -> tuple[list[RunScores], int]:
    """Read every run below some folders.

    Args:
        places: Run directories, sweep directories, or folders of them at any depth.

    Returns:
        The runs in the order of their folders, and the number of those left out: copies, and failed runs
        that were run again.

    Raises:
        PunieError: A place is no folder, or there is no run in any of them.
    """
    found: dict[str, tuple[Path, _Planned]] = {}
    for place in places:
        if not place.is_dir():
            raise PunieError(
                "There is no such folder.",
                where=place,
                expected="a run's directory, a sweep's, or a folder of them, such as outputs/runs",
            )
        for folder, planned in _walk(place):
            found.setdefault(os.path.realpath(folder), (folder, planned))
    if not found:
        raise PunieError(
            "There are no runs here.",
            where=", ".join(map(str, places)),
            expected="folders with config.yaml, status.json and results.json",
            next_step="python -m punie makes a run below outputs/runs, python -m punie -m a sweep",
        )
    return _merged([read(folder, planned) for folder, planned in found.values()])


def read(folder: Path, planned: _Planned = None) -> RunScores:
    """Read one run's directory.

    ``planned`` is the job that it is of a sweep, whose config stands in for one that is not written yet; or
    why the plan of the sweep in this folder cannot be read.
    """
    run, config, overrides = Run(folder), None, ()
    try:
        if isinstance(planned, PunieError):
            raise planned
        overrides = planned.overrides if planned else ()
        config = planned.config if planned and not (folder / CONFIG).exists() else run.config
        if planned and not (folder / STATUS).exists():
            return RunScores(folder, NOT_STARTED, None, config, overrides=overrides)
        if planned is None and config.phase and (folder / PROVENANCE).exists():
            overrides = run.provenance.overrides
        status = files.read(folder / STATUS, Status)
        if status.status == FINISHED:
            return _finished(run, config, overrides)
        state, reason = status.status, (status.error or "").partition("\n")[0] or None
    except PunieError as error:
        state, reason = UNREAD, _words(error, folder)
    return RunScores(folder, state, reason, config, overrides=overrides)


def _walk(place: Path) -> Iterator[tuple[Path, _Planned]]:
    """The runs' folders, with what a sweep's plan has for them."""
    for root, folders, names in os.walk(place):
        here, found = Path(root), {*folders, *names}
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if found & MARKS:
            folders.clear()
        elif PLAN in found:
            try:
                yield from ((here / job.folder, job) for job in SweepPlan.read(here).jobs)
            except PunieError as error:
                yield here, error
        elif found & _RUN_FILES and "jobs" not in found:
            folders.clear()
            yield here, None


def _finished(run: Run, config: RunConfig, overrides: Sequence[str]) -> RunScores:
    results, expected = run.results, run.results.generation.samples
    try:
        lock, evaluated = results.lock, results.artifacts["evaluate"].key
        locked = {name: lock.of_prompt(name) for name in lock.prompts} if lock else {}
    except (LookupError, ValueError) as error:
        words = f"{type(error).__name__}: {error}"
        raise files.unreadable(run.folder / RESULTS, Results.KIND, words) from None
    by_prompt: dict[str, list[_Line]] = {}
    for line in _lines(run.folder / SAMPLES, expected):
        if line.missing is None:
            by_prompt.setdefault(sys.intern(line.id), []).append(line)
    missing = expected - sum(map(len, by_prompt.values()))
    complete = bool(by_prompt) and results.find("strict") is not None
    prompts = {name: _scores(each, locked.get(name)) for name, each in by_prompt.items()}
    base = results.artifacts.get("base")
    identity = results.identity.model_copy(update={"weights": Weights(whole=results.identity.weights.whole)})
    return RunScores(
        run.folder,
        FINISHED if complete else INCOMPLETE,
        None if complete else f"{missing} of {expected} responses are missing",
        config,
        evidence=f"{evaluated} {results.answers}",
        base=base.key if base else None,
        suite=results.identity.suite,
        unverified=results.identity.unverified,
        missing=missing,
        prompts=prompts if complete else None,
        overrides=overrides,
        ship=results.ship,
        results=results.model_copy(update={**_LEFT_OUT, "identity": identity}) if config.phase else None,
    )


def _lines(path: Path, expected: int) -> Iterator[_Line]:
    """The lines of a samples.jsonl.

    Raises:
        DataError: A line is not a response's record, or the number of lines is another than expected.
    """
    number = 0
    try:
        with path.open("rb") as stream:
            for number, text in enumerate(iter(lambda: stream.readline(MAX_LINE), b""), 1):
                line = _Line.model_validate_json(text)
                if line.missing is None and (absent := [name for name in ALWAYS if name not in line.scores]):
                    where = f"{path}:{number}"
                    raise DataError("A response has no score.", where=where, expected=", ".join(absent))
                yield line
    except OSError as error:
        raise DataError("The file cannot be read.", where=path, found=error.strerror) from None
    except ValidationError as error:
        where, found = f"{path}:{number}", files.problem(error)
        raise DataError("The line is not a record of a response.", where=where, found=found) from None
    if number != expected:
        found = f"{number} of {expected} lines"
        raise DataError("Responses are missing from the file.", where=path, found=found)


def _scores(lines: Sequence[_Line], lock: float | None) -> PromptScores:
    values = {
        name: tuple(line.scores[name].value for line in lines if name in line.scores)
        for name in lines[0].scores
    }
    values["wrapper"] = tuple(float(line.wrapper) for line in lines)
    for line in lines:
        asked = (wrong_decision(bool(t.expect), t.taxonomy, t.wrapper) for t in (*line.earlier, line))
        for rate, wrong in dict(asked).items():
            values[rate] = (*values.get(rate, ()), wrong)
    for line in lines:
        for turn in range(1, line.turns + 1 if line.turns > 1 else 1):
            right = turn < line.turn or (turn == line.turn and line.scores["strict"].value == 1.0)
            for name in turn_names(turn)[: 2 if turn <= line.turn else 1]:
                values[name] = (*values.get(name, ()), float(right))
    if lock is not None:
        values["lock"] = (lock,)
    taxonomy = tuple(sys.intern(line.taxonomy) for line in lines)
    return PromptScores(sys.intern(lines[0].category), values, taxonomy)


def turn_names(turn: int) -> tuple[str, str]:
    """The names under which it is kept whether a turn is right: of all conversations, of those reached."""
    return f"turn {turn}, of all", f"turn {turn}, of those reached"


def _merged(runs: Sequence[RunScores]) -> tuple[list[RunScores], int]:
    """Each evaluation once; of a config that failed and was run again, the run that finished.

    The same responses twice, from the store or from another machine, are not two samples.
    """
    kept: dict[str, RunScores] = {}
    configs: set[str] = set()
    for run in sorted(runs, key=lambda each: not each.finished):  # the finished ones first
        config = run.config.sha256 if run.config else ""
        if run.finished:
            kept.setdefault(run.evidence, run)
        elif run.state == UNREAD:
            kept[str(run.folder)] = run
        elif config not in configs:
            kept[config] = run
        configs.add(config)
    chosen = {id(run) for run in kept.values()}
    return [run for run in runs if id(run) in chosen], len(runs) - len(chosen)


def _words(error: PunieError, folder: Path) -> str:
    """An error in a line, its file relative to the run's folder."""
    where = (error.where or "").removeprefix(f"{folder}{os.sep}")
    what = error.what.rstrip(".")
    words = ": ".join(each for each in (where if where not in what else "", what, error.found) if each)
    return words.encode(errors="backslashreplace").decode()  # half of a surrogate pair is no text
