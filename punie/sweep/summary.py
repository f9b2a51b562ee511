"""Writes how a sweep ended: sweep.json, the summary of its runs, and the tables on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from punie.config.presets import CARRIED
from punie.results import files
from punie.results.outcome import Job, concluded, in_words
from punie.results.records import Results
from punie.results.run import Run
from punie.results.summary import documents
from punie.results.summary.summary import Summary
from punie.results.sweep import FACTS, JobFacts, PlannedJob, SweepFacts, SweepPlan, brief
from punie.store.keys import digest
from punie.sweep.job import TRACEBACK, headline
from punie.sweep.plan import shown
from punie.util.errors import PunieError
from punie.util.printable import folded, printable

LONGEST = 14
"""Conclusions that a terminal is shown."""
log = logging.getLogger(__name__)


def collect(plan: SweepPlan, folder: Path, *, interrupted: bool = False) -> SweepFacts:
    """Read how every job of a sweep ended."""
    runs = [Run(folder / job.folder) for job in plan.jobs]
    results = [run.results if run.status.status == "finished" else None for run in runs]
    jobs = [_facts(plan, *each) for each in zip(plan.jobs, runs, results, strict=True)]
    flags = [each for each in plan.arguments if each.startswith(CARRIED)]
    outcome = concluded(
        [
            Job(job.config, [*flags, *job.overrides], each)
            for job, each in zip(plan.jobs, results, strict=True)
        ]
    )
    measured = [[job.axes, job.result] for job in jobs]
    finished = all(job.status == "finished" for job in jobs)
    return SweepFacts(
        version=SweepFacts.VERSION,
        name=plan.name,
        command=["python", "-m", "punie", "-m", *plan.arguments],
        axes=[axis.lstrip("+") for axis in plan.axes],
        duplicates=plan.duplicates,
        jobs=jobs,
        outcome=outcome,
        digest=digest("sweep", [measured, outcome and outcome.model_dump(mode="json")]),
        status="interrupted" if interrupted else "finished" if finished else "failed",
    )


def write(folder: Path, facts: SweepFacts) -> Summary | None:
    """Write sweep.json, and summary.{json,md,csv,html} of the sweep's runs.

    Returns:
        The summary; None if none of the runs can be read.
    """
    files.write(folder / FACTS, facts)
    try:
        notes = [f"Sweep {facts.name}: {facts.status}.", *_failures(facts)]
        return documents.write(folder, sweep=facts, notes=notes)
    except PunieError as error:
        log.warning("the runs of this sweep cannot be summarized: %s", error.what)
        return None


def terminal(facts: SweepFacts, folder: Path, found: Summary | None = None) -> str:
    """The text that ends a sweep: a table of jobs, the failures, the conclusions, and the outcome."""
    blocks = [_table(facts), "\n".join(map(printable, _failures(facts)))]
    place = f"sweep directory: {shown(folder)}"
    if found is not None:
        more = len(found.conclusions) - LONGEST
        lines = [folded(printable(each)) for each in found.conclusions[:LONGEST]]
        blocks.append("\n".join([*lines, *([f"… and {more} more"] if more > 0 else [])]))
        place += f"\nnext: open {shown(folder)}/summary.html, or: punie summarize {shown(folder)}"
    blocks += [place, "\n".join(in_words(facts.outcome) if facts.outcome else [])]
    return "\n" + "\n\n".join(filter(None, blocks))


def _failures(facts: SweepFacts) -> list[str]:
    """A line for each job that went wrong, with the file of its traceback in the sweep's folder."""
    return [
        f"Job {job.number:03d}, {job.status}: {headline(job.error)}"
        + (f" ({job.traceback})" if job.traceback else "")
        for job in facts.jobs
        if job.error
    ]


def _facts(plan: SweepPlan, job: PlannedJob, run: Run, results: Results | None) -> JobFacts:
    status, phase = run.status, job.config.phase
    return JobFacts(
        number=job.number,
        id=job.id,
        folder=job.folder,
        overrides=job.overrides,
        axes=plan.values(job),
        status=status.status,
        exit_code=status.exit_code,
        score=results.find(phase.score if phase else "keyword") if results else None,
        strict=results.find("strict") if results else None,
        seconds=round(sum(stage.seconds for stage in status.stages), 3),
        built=[stage.stage for stage in status.stages if not stage.reused],
        error=status.error,
        traceback=f"{job.folder}/{TRACEBACK}" if (run.folder / TRACEBACK).is_file() else None,
        result=digest("result", _measured(results)) if results else None,
    )


def _measured(results: Results) -> Mapping[str, Any]:
    """What the same config gives again, digest for digest: everything but times."""
    parts = {"scores", "wrapper_rate", "taxonomy", "missing", "sampling", "identity", "answers"}
    return {
        **results.model_dump(mode="json", include=parts),
        "artifacts": {
            stage: [
                made.key,
                {name: sha for name, sha in made.files.items() if name.endswith(".safetensors")},
            ]
            for stage, made in results.artifacts.items()
        },
    }


def _table(facts: SweepFacts) -> str:
    rows = []
    for job in facts.jobs:
        values = [brief([job.axes.get(axis, "")], 40) for axis in facts.axes] or [brief(job.overrides, 60)]
        figures = ["–" if value is None else f"{value:.3f}" for value in (job.score, job.strict)]
        state = "below the gate" if job.status == "finished" and job.exit_code else job.status
        rows.append([f"{job.number:03d}", *values, state, *figures, f"{job.seconds:.1f}"])
    headers = ["job", *(facts.axes or ["overrides"]), "state", "score", "strict", "seconds"]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True)
