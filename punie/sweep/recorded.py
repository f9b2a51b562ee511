"""A sweep's part of a results document: its outcome as registered, its jobs, and those that it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from punie.results.decisions import decide
from punie.results.outcome import outcome
from punie.results.pages.documents import environment
from punie.results.registration import Document, Ran, Registration, changes, nearest_job
from punie.results.verdict import metric
from punie.stages.registered import fields
from punie.sweep.job import read_status
from punie.sweep.plan import SweepPlan


def section(
    document: Document,
    plan: SweepPlan,
    folder: Path,
    name: str,
    runs: Mapping[str, tuple[Ran, Mapping[str, Any], bool]],
) -> str:
    """The part of a document that is about a sweep as a whole.

    Args:
        document: Where it will stand; its criteria and outcomes count, whatever the sweep was run with.
        plan: The sweep's.
        folder: The sweep's.
        name: The part's id in the document.
        runs: By job folder, each run that finished, its results.json, and whether its answers are younger
            than a registration that nobody has edited since.
    """
    registration = document.registration
    phase = registration.phase
    rows, registered, jobs = [], set(), []
    for place, job in plan.by_folder.items():
        ran, result, after = runs.get(place, (Ran(phase, fields(job.typed()), {}), None, True))
        number, differing = nearest_job(registration, ran)
        if not differing:
            registered.add(number)
        scores = [result and metric(result["scores"], score, "overall") for score in ("keyword", "strict")]
        state = read_status(folder / job.folder)["status"]
        rows.append((place, plan.label(job), state, *scores, after and not changes(registration, ran)))
        jobs.append(({**job.config, "phase": phase}, job.overrides, result))
    found = outcome(jobs)
    return (
        environment(autoescape=False)
        .get_template("recorded_sweep.md.jinja")
        .render(
            name=name,
            phase=phase,
            outcome=found,
            decision=decide(phase, found["verdict"], plan.jobs[0].overrides) if found else None,
            rows=rows,
            left_out=[job for number, job in enumerate(_places(registration)) if number not in registered],
        )
    )


def _places(registration: Registration) -> list[dict[str, Any]]:
    """Each registered job by the fields in which the jobs differ."""
    jobs = registration.jobs or ({},)
    first = {key: value for key, value in registration.config.items() if any(key in job for job in jobs)}
    return [{**first, **job} for job in jobs]
