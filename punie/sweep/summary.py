"""What became of a sweep: its facts in ``sweep.json``, and the tables that end it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from punie.results.outcome import concluded, in_words
from punie.results.summary import documents
from punie.results.summary.summary import Summary
from punie.store.keys import digest
from punie.sweep.compose import brief
from punie.sweep.job import TRACEBACK, headline, read_status
from punie.sweep.plan import Job, SweepPlan, shown
from punie.util.errors import PunieError
from punie.util.files import write_json
from punie.util.printable import folded, printable

FACTS = "sweep.json"
"""Every job's end, and the digest of what was measured."""
LONGEST = 14
"""Sentences of a verdict that a terminal is shown."""
log = logging.getLogger(__name__)


def collect(plan: SweepPlan, folder: Path) -> dict[str, Any]:
    """Read every job's folder.

    Returns:
        ``jobs``, a row each; ``outcome`` of the phase, None without one; ``digest`` over all that was
        measured, which is the same however often the sweep was interrupted.
    """
    rows, results = [], {}
    for job in plan.jobs:
        row, result = _row(plan, job, folder)
        rows.append(row)
        results[job.number] = result
    found = concluded([(job.config, job.overrides, results[job.number]) for job in plan.jobs])
    measured = [[row["axes"], row["result"]] for row in rows]
    return {
        "schema": 1,
        "name": plan.name,
        "command": ["python", "-m", "punie", "-m", *plan.arguments],
        "axes": [axis.lstrip("+") for axis in plan.axes],
        "duplicates": plan.duplicates,
        "jobs": rows,
        "outcome": found,
        "digest": digest("sweep", [measured, found]),
    }


def write(folder: Path, facts: Mapping[str, Any]) -> Summary | None:
    """Write sweep.json, and summary.{json,md,csv,html} of its runs.

    Args:
        folder: The sweep's.
        facts: As :func:`collect` gives them, and the ``status``.

    Returns:
        What the runs show; None if not one of them can be read.
    """
    write_json(folder / FACTS, facts)
    notes = [f"Sweep {facts['name']}: {facts['status']}."]
    for row in facts["jobs"]:
        if row["error"]:
            where = f" ({row['traceback']})" if row["traceback"] else ""
            notes.append(f"Job {row['number']:03d}, {row['status']}: {headline(row['error'])}{where}")
    try:
        return documents.write(folder, sweep=facts, notes=notes)
    except PunieError as error:
        log.warning("the runs of this sweep cannot be summarized: %s", error.what)
        return None


def terminal(summary: Mapping[str, Any], folder: Path, found: Summary | None = None) -> str:
    """What ends a sweep: the tables of jobs and of failures, the outcome, and the verdict of its runs."""
    headers, rows = _table(summary)
    blocks = [tabulate(rows, headers, tablefmt="simple", disable_numparse=True)]
    troubles = [row for row in summary["jobs"] if row["error"]]
    if troubles:
        cells = [[f"{row['number']:03d}", row["status"], headline(row["error"])] for row in troubles]
        paths = [shown(folder / row["traceback"]) for row in troubles if row["traceback"]]
        table = tabulate(cells, ["job", "", "what"], tablefmt="simple", disable_numparse=True)
        blocks.append("\n".join([table, *(["tracebacks:", *paths] if paths else [])]))
    place = f"sweep directory: {shown(folder)}"
    if found is not None:
        more = len(found.verdict) - LONGEST
        said = [folded(printable(each)) for each in found.verdict[:LONGEST]]
        blocks.append("\n".join([*said, *([f"… and {more} more sentences"] if more > 0 else [])]))
        place += f"\nnext: open {shown(folder)}/summary.html, or: punie summarize {shown(folder)}"
    blocks.append(place)
    if summary["outcome"]:
        blocks.append("\n".join(in_words(summary["outcome"])))
    return "\n" + "\n\n".join(blocks)


def _row(plan: SweepPlan, job: Job, folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    place = folder / job.folder
    status = read_status(place)
    result = None
    if status["status"] == "finished":
        result = json.loads((place / "results.json").read_text("utf-8"))
    phase = job.config["phase"]
    score = phase["score"] if phase else "keyword"
    return {
        "number": job.number,
        "id": job.id,
        "folder": job.folder,
        "overrides": list(job.overrides),
        "axes": plan.values(job),
        "status": status["status"],
        "exit_code": status.get("exit_code", 0),
        "score": result and result["scores"][score]["overall"]["mean"],
        "strict": result and result["scores"]["strict"]["overall"]["mean"],
        "seconds": round(sum(stage["seconds"] for stage in status.get("stages", ())), 3),
        "built": [stage["stage"] for stage in status.get("stages", ()) if not stage["reused"]],
        "error": status.get("error"),
        "traceback": f"{job.folder}/{TRACEBACK}" if (place / TRACEBACK).is_file() else None,
        "result": result and digest("result", _measured(result)),
    }, result


def _measured(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the same config gives again, digest for digest: everything but times."""
    return {
        **{name: result[name] for name in ("scores", "sampling", "identity", "answers")},
        "artifacts": {
            stage: [entry["key"], {f: sha for f, sha in entry["files"].items() if f.endswith(".safetensors")}]
            for stage, entry in result["artifacts"].items()
        },
    }


def _table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    axes = summary["axes"]
    headers = ["job", *(axes or ["overrides"]), "state", "score", "strict", "seconds"]
    rows = []
    for row in summary["jobs"]:
        place = [brief([row["axes"].get(axis, "")], 40) for axis in axes] or [brief(row["overrides"], 60)]
        figures = ["–" if row[name] is None else f"{row[name]:.3f}" for name in ("score", "strict")]
        state = "below the gate" if row["status"] == "finished" and row["exit_code"] else row["status"]
        rows.append([f"{row['number']:03d}", *place, state, *figures, f"{row['seconds']:.1f}"])
    return headers, rows
