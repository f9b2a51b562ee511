"""A sweep's part of a results document: its outcome as registered, its jobs, and those that it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from punie.results.config import RunConfig
from punie.results.outcome import Job, concluded
from punie.results.pages.text import share
from punie.results.recorded import Recorded
from punie.results.registration import Registration, nearest_job, render
from punie.results.run import read_status
from punie.stages.registered import fields
from punie.sweep.plan import SweepPlan


def section(
    name: str, registration: Registration, plan: SweepPlan, folder: Path, runs: Mapping[str, Recorded]
) -> str:
    """The part of a document, with this id, that is about a sweep as a whole.

    The registration's criteria and outcomes count, whatever the sweep was run with; ``runs`` are the finished
    ones, by the name of their folder.
    """
    rows, jobs, left_out = [], [], dict(enumerate(registration.jobs))
    phase = registration.phase.model_dump(mode="json")
    for place, job in plan.by_folder.items():
        found = runs.get(place)
        number, changes = nearest_job(registration, found.fields if found else fields(job.typed()))
        if not changes:
            left_out.pop(number, None)
        results = found.run.results if found else None
        scores = [share(results.find(score) if results else None) for score in ("keyword", "strict")]
        otherwise = found.changes or found.early if found else changes
        state = read_status(folder / job.folder).status
        rows.append([place, plan.label(job), state, *scores, "no" if otherwise else "yes"])
        jobs.append(Job(RunConfig({**job.config.values, "phase": phase}), job.overrides, results))
    rows += [["–", job.values or "the registered config", "not run", *"–––"] for job in left_out.values()]
    headers = ["job", "values", "state", "keyword match", "execution", "as registered"]
    return render("sweep", name=name, outcome=concluded(jobs), jobs=(headers, rows))
