"""A phase registered before its run: a JSON record of what was decided, and the results document beside it.

``NAME.json`` is the registration; it is never changed, and git has its date. ``NAME.md`` shows it, has a
summary that people write, and holds a part for each recorded run between two markers.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field

from punie.config.presets import CARRIED
from punie.evals.scores import ALWAYS, heading
from punie.results import files, outcome
from punie.results.config import SOURCES, RunConfig
from punie.results.pages import tables
from punie.results.pages.render import environment
from punie.results.pages.text import inline, share
from punie.results.records import File, Git, Metric, Phase, Record, Sample
from punie.results.run import Run, read_status
from punie.results.sweep import SweepPlan
from punie.results.verdict import decide, judge
from punie.store.keys import SHORT, differences, digest
from punie.util.errors import PunieError

Fields = Mapping[str, Any]
"""What decides a run's result: config fields by dotted name, and the digests of inputs by name."""
Change = tuple[str, Any, Any]
"""A dotted name, its value as registered and as found; None where it is absent."""
BEGIN, END = "<!-- punie:results -->", "<!-- punie:end -->"
_RESULTS = re.compile(rf"(.*^{BEGIN}\r?\n)(.*)(^{END}\r?$.*)", re.DOTALL | re.MULTILINE)
_PART = re.compile(r"^<!-- punie:run (\S+) -->\r?\n", re.MULTILINE)
_BUILT = re.compile(r"built ([\d-]{10}) ([\d:]{8})")


class Job(Record):
    """A registered run, or one job of a registered sweep."""

    values: str
    """The values of the swept overrides, in words."""
    differs: dict[str, Any]
    """The fields in which it differs from the first job."""


class Registration(File):
    """What was decided before the run, and when."""

    KIND = "a registration of punie prereg"

    registered: str
    """UTC, ISO 8601."""
    git: Git | None
    command: str
    phase: Phase
    fields: dict[str, Any]
    """Of the first job."""
    jobs: Annotated[list[Job], Field(min_length=1)]


@dataclass(frozen=True)
class Document:
    """A results document as read."""

    path: Path
    text: str
    registration: Registration
    registered: str
    """When git's commit was made of the record; the record's own time if it is not committed."""
    committed: bool

    def with_parts(self, parts: Mapping[str, str]) -> str:
        """The text with a part for each of these runs; all other text is kept."""
        head, body, tail = _split(self.text, self.path)
        _, *found = _PART.split(body)
        kept = {**dict(zip(found[::2], found[1::2], strict=True)), **parts}
        return head + "".join(f"<!-- punie:run {name} -->\n{part}" for name, part in kept.items()) + tail


@dataclass(frozen=True)
class Part:
    """The part of a document that is about a run."""

    run: Run
    id: str
    text: str
    notes: tuple[str, ...]
    """What is not as registered: the fields, and that the responses are older."""

    def in_words(self) -> str:
        """What is not as registered, in a line."""
        return f"{self.id}: " + (
            f"not as registered: {', '.join(self.notes)}" if self.notes else "as registered"
        )


def run_part(run: Run, document: Document, fields: Fields) -> Part:
    """A run held against its registration, whose criteria give its verdict."""
    results, provenance, status = run.results, run.provenance, run.status
    phase, name = document.registration.phase, part_id(run.folder)
    own = run.config.phase
    _, changes = nearest_job(document.registration, {**fields, "phase": named(own)} if own else fields)
    answered = status.started
    for stage in status.stages:  # before the run began if they were in the store
        if stage.stage == "evaluate" and stage.reused and (built := _BUILT.fullmatch(stage.reason)):
            answered = f"{built[1]}T{built[2]}+00:00"
    early = answered is None or answered < document.registered
    verdict = judge(results, phase)
    rows = [["–" if value is None else str(value) for value in change] for change in changes]
    text = _render(
        "run",
        name=name,
        document=document,
        answered=answered,
        early=early,
        results=results,
        provenance=provenance,
        verdict=verdict,
        decision=decide(
            phase,
            verdict.outcome,
            [*(each for each in provenance.command if each.startswith(CARRIED)), *provenance.overrides],
        ),
        changes=(["field", "registered", "in this run"], rows),
        baseline=phase.baseline,
        baseline_sentence=tables.baseline_sentence(results, phase),
        prompts=_prompts(run.samples),
        training=_training(run.metrics),
    )
    notes = [key for key, *_ in changes] + ["answered before the registration"] * early
    return Part(run, name, text, tuple(notes))


def sweep_part(
    folder: Path, document: Document, plan: SweepPlan, jobs: Sequence[Fields], parts: Sequence[Part]
) -> str:
    """The part that is about a sweep, by the fields of each planned job and the parts of the finished ones.

    The registered criteria and outcomes give its verdict.
    """
    registration, by_folder = document.registration, {each.run.folder.name: each for each in parts}
    phase, left_out = registration.phase.model_dump(mode="json"), dict(enumerate(registration.jobs))
    rows, judged = [], []
    for (place, job), fields in zip(plan.by_folder.items(), jobs, strict=True):
        number, changes = nearest_job(registration, fields)
        if not changes:
            left_out.pop(number, None)
        found = by_folder.get(place)
        results = found.run.results if found else None
        scores = [share(results.find(score) if results else None) for score in ALWAYS]
        state = read_status(folder / job.folder).status
        otherwise = found.notes if found else changes
        rows.append([place, plan.label(job), state, *scores, "no" if otherwise else "yes"])
        judged.append(outcome.Job(RunConfig({**job.config.values, "phase": phase}), job.overrides, results))
    rows += [["–", job.values or "the registered config", "not run", *"–––"] for job in left_out.values()]
    table = ["job", "values", "state", *map(heading, ALWAYS), "as registered"], rows
    return _render("sweep", name=part_id(folder), outcome=outcome.concluded(judged), jobs=table)


def part_id(folder: Path) -> str:
    """The id of a folder's part in a document: its name; for a job of a sweep, after the sweep's."""
    whole = folder.resolve()
    names = [whole.parent.parent.name, whole.name] if whole.parent.name == "jobs" else [whole.name]
    return "/".join(map(quote, names))


def document_path(folder: Path, name: str, jobs: Sequence[Fields]) -> Path:
    """Where the document of a run, or of a sweep's jobs, is: its name has a digest of their config fields."""
    key = digest("registered config", [jobs[0], differing(jobs) if jobs[1:] else []])[:SHORT]
    return folder / f"{name.replace('/', '-')}-{key}.md"


def differing(jobs: Sequence[Fields]) -> list[dict[str, Any]]:
    """For each job the fields in which it differs from the first."""
    return [{key: value for key, value in job.items() if jobs[0].get(key) != value} for job in jobs]


def compose(registration: Registration, path: Path) -> str:
    """The document of a phase that is still to be run.

    Raises:
        PunieError: A text of the phase contains one of the document's markers.
    """
    text = _render("document", registration=registration, record=path.with_suffix(".json").name)
    _split(text, path)
    return text


def read(path: Path) -> Document:
    """A document and the record beside it.

    Raises:
        PunieError: One of them cannot be read, or the document's markers are damaged.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise files.unreadable(path, "a document of punie prereg", str(error)) from None
    _split(text, path)
    record = path.with_suffix(".json")
    registration, committed = files.read(record, Registration), _committed(record)
    return Document(path, text, registration, committed or registration.registered, committed is not None)


def nearest_job(registration: Registration, found: Fields) -> tuple[int, list[Change]]:
    """The registered job that a run is nearest to, by number, and what differs."""
    first = {**registration.fields, "phase": named(registration.phase)}
    jobs = [_changes({**first, **job.differs}, found) for job in registration.jobs]
    return min(enumerate(jobs), key=lambda each: len(each[1]))


def named(phase: Phase) -> dict[str, Any]:
    """A phase as nested mappings: criteria by metric, outcomes by number, so that each has a name."""
    return {
        **phase.model_dump(exclude_none=True),
        "criteria": {f"{each.metric} {each.op}": each.value for each in phase.criteria},
        "outcomes": {str(n): each.model_dump(exclude_none=True) for n, each in enumerate(phase.outcomes, 1)},
    }


def _changes(registered: Fields, found: Fields) -> list[Change]:
    """Where both digests of an input are known, its path does not count; else only its path does."""
    unneeded = {name for name in registered.keys() ^ found.keys() if "." not in name}
    for name in registered.keys() & found.keys() & SOURCES.keys():
        unneeded |= {*SOURCES[name]}
    before, after = ({k: v for k, v in each.items() if k not in unneeded} for each in (registered, found))
    return [(name.replace("/", "."), *values) for name, *values in differences(before, after)]


def _render(part: str, **facts: Any) -> str:
    """A part of a results document: ``document``, ``run`` or ``sweep``."""
    template = environment(autoescape=False).get_template("registration.md.jinja")
    return template.render(part=part, begin=BEGIN, end=END, tables=tables, inline=inline, **facts)


def _split(text: str, path: Path) -> tuple[str, str, str]:
    """The text before the recorded runs, theirs, and the text after them."""
    counts = [len(re.findall(rf"^{each}\r?$", text, re.MULTILINE)) for each in (BEGIN, END)]
    if counts != [1, 1] or (found := _RESULTS.fullmatch(text)) is None:
        raise PunieError(
            "The document's markers are damaged; nothing was written.",
            where=path,
            found=f"{counts[0]} times {BEGIN} and {counts[1]} times {END}",
            expected="a line of each, in this order",
            next_step="restore the lines (git diff shows them) and run the command again",
        )
    return found[1], found[2], found[3]


def _committed(path: Path) -> str | None:
    """When the file was committed as it is now, in UTC; None if it is not committed, or without git."""
    git = ["git", "-C", str(path.parent), "-c", "core.fsmonitor=false"]
    try:
        moment, changed = (
            subprocess.run(
                [*git, *words, "--", path.name], capture_output=True, text=True, check=True, timeout=10
            )
            for words in (["log", "-1", "--format=%at"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if changed.stdout or not moment.stdout.strip():
        return None
    return datetime.fromtimestamp(int(moment.stdout), UTC).isoformat(timespec="seconds")


def _prompts(samples: Sequence[Sample]) -> tables.Table:
    """A row for each prompt: mean scores over its repeats, and the reasons."""
    repeats: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        repeats[sample.id].append(sample)
    rows = []
    for name, own in repeats.items():
        there = [sample.scores for sample in own if sample.answered]
        means = [share(fmean(each[score].value for each in there) if there else None) for score in ALWAYS]
        rows.append([name, own[0].category, *means, "; ".join(dict.fromkeys(map(_reason, own)))])
    return ["id", "category", *map(heading, ALWAYS), "reasons"], rows


def _reason(sample: Sample) -> str:
    if sample.missing is not None:
        return f"missing: {sample.missing}"
    reason = sample.scores["strict"].reason
    return reason if reason.startswith(sample.taxonomy) else f"{sample.taxonomy}: {reason}"


def _training(metrics: Sequence[Metric]) -> tables.Table:
    """First, last and lowest loss of training and validation."""
    rows = []
    for kind, name in (("train", "training loss"), ("valid", "validation loss")):
        losses = [(each.loss, each.iter) for each in metrics if each.kind == kind and each.loss is not None]
        if losses:
            lowest, at = min(losses)
            rows.append([name, f"{losses[0][0]:.3f}", f"{losses[-1][0]:.3f}", f"{lowest:.3f}", str(at)])
    return ["", "first", "last", "lowest", "at iteration"], rows
