"""The parts of a results document that are about a run or a sweep: what they show by what was registered."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from punie.evals.scores import ALWAYS, heading
from punie.results.config import RunConfig
from punie.results.decisions import decide
from punie.results.outcome import Job, concluded
from punie.results.pages import tables
from punie.results.pages.text import share
from punie.results.records import Metric, Sample
from punie.results.registration import Change, Document, Fields, named, nearest_job, render
from punie.results.run import Run, read_status
from punie.results.sweep import SweepPlan
from punie.results.verdict import judge

_BUILT = re.compile(r"built ([\d-]{10}) ([\d:]{8})")


@dataclass(frozen=True)
class Recorded:
    """A run, held against a registration."""

    run: Run
    document: Document
    fields: Fields

    @property
    def id(self) -> str:
        """The part's id in the document."""
        return part_id(self.run.folder)

    @cached_property
    def changes(self) -> list[Change]:
        """What is not as registered."""
        phase = self.run.config.phase
        found = {**self.fields, "phase": named(phase)} if phase else self.fields
        return nearest_job(self.document.registration, found)[1]

    @property
    def answered(self) -> str | None:
        """When the responses were generated, ISO 8601; before the run began if they were in the store."""
        for stage in self.run.status.stages:
            if stage.stage == "evaluate" and stage.reused and (built := _BUILT.fullmatch(stage.reason)):
                return f"{built[1]}T{built[2]}+00:00"
        return self.run.status.started

    @property
    def early(self) -> bool:
        """The responses are older than the registration, or of an unknown time."""
        return self.answered is None or self.answered < self.document.registered

    def in_words(self) -> str:
        """What is not as registered, in a line."""
        found = [name for name, *_ in self.changes] + ["answered before the registration"] * self.early
        return f"{self.id}: " + (f"not as registered: {', '.join(found)}" if found else "as registered")

    def section(self) -> str:
        """The part of a document that is about this run; the registered criteria give its verdict."""
        results, phase, provenance = self.run.results, self.document.registration.phase, self.run.provenance
        verdict = judge(results, phase)
        changes = [["–" if value is None else str(value) for value in change] for change in self.changes]
        return render(
            "run",
            recorded=self,
            results=results,
            provenance=provenance,
            verdict=verdict,
            decision=decide(phase, verdict.outcome, provenance.overrides),
            changes=(["field", "registered", "in this run"], changes),
            baseline=phase.baseline,
            baseline_sentence=tables.baseline_sentence(results, phase),
            prompts=_prompts(self.run.samples),
            training=_training(self.run.metrics),
        )


def part_id(folder: Path) -> str:
    """The id of a folder's part in a document: its name; for a job of a sweep, after the sweep's."""
    whole = folder.resolve()
    names = [whole.parent.parent.name, whole.name] if whole.parent.name == "jobs" else [whole.name]
    return "/".join(map(quote, names))


def sweep_section(
    folder: Path, document: Document, plan: SweepPlan, jobs: Sequence[Fields], held: Sequence[Recorded]
) -> str:
    """The part of a document that is about a sweep; the registered criteria and outcomes give its verdict.

    Args:
        folder: The sweep's.
        document: The document.
        plan: The sweep's.
        jobs: The fields of each planned job.
        held: The finished runs.
    """
    registration, by_folder = document.registration, {each.run.folder.name: each for each in held}
    phase, left_out = registration.phase.model_dump(mode="json"), dict(enumerate(registration.jobs))
    rows, judged = [], []
    for (place, job), fields in zip(plan.by_folder.items(), jobs, strict=True):
        number, changes = nearest_job(registration, fields)
        if not changes:
            left_out.pop(number, None)
        found = by_folder.get(place)
        results = found.run.results if found else None
        scores = [share(results.find(score) if results else None) for score in ALWAYS]
        otherwise = found.changes or found.early if found else changes
        state = read_status(folder / job.folder).status
        rows.append([place, plan.label(job), state, *scores, "no" if otherwise else "yes"])
        judged.append(Job(RunConfig({**job.config.values, "phase": phase}), job.overrides, results))
    rows += [["–", job.values or "the registered config", "not run", *"–––"] for job in left_out.values()]
    headers = ["job", "values", "state", *map(heading, ALWAYS), "as registered"]
    return render("sweep", name=part_id(folder), outcome=concluded(judged), jobs=(headers, rows))


def _prompts(samples: Sequence[Sample]) -> tables.Table:
    """A row for each prompt: mean scores over its repeats, and the reasons."""
    repeats: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        repeats[sample.id].append(sample)
    rows = []
    for name, of in repeats.items():
        there = [sample for sample in of if sample.answered]
        means = [
            sum(s.scores[score].value for s in there) / len(there) if there else None for score in ALWAYS
        ]
        rows.append([name, of[0].category, *map(share, means), "; ".join(dict.fromkeys(map(_reason, of)))])
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
