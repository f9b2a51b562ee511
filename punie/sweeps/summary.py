"""What became of a sweep: ``summary.json``, ``summary.md``, and the tables for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from punie.files import write_json, write_text
from punie.reports.documents import cell
from punie.store.keys import digest
from punie.sweeps.compose import brief
from punie.sweeps.job import TRACEBACK, headline, read_status
from punie.sweeps.outcome import outcome
from punie.sweeps.plan import Job, SweepPlan, shown


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
    found = outcome([(job.config, job.overrides, results[job.number]) for job in plan.jobs])
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


def write(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json and summary.md."""
    write_json(folder / "summary.json", summary)
    headers, rows = _table(summary)
    table = tabulate(
        [[cell(value) for value in row] for row in rows], headers, tablefmt="github", disable_numparse=True
    )
    text = f"# Sweep {summary['name']}\n\nStatus: {summary['status']}\n\n{table}\n"
    if summary["outcome"]:
        text += f"\n{_words(summary['outcome'])}\n"
    for row in summary["jobs"]:
        if row["error"]:
            text += f"\n- job {row['number']:03d}, {row['status']}: {cell(headline(row['error']))}"
            text += f" ({row['traceback']})" if row["traceback"] else ""
    write_text(folder / "summary.md", text.rstrip() + "\n")


def terminal(summary: Mapping[str, Any], folder: Path) -> str:
    """The tables that end a sweep: jobs, failures, outcome."""
    headers, rows = _table(summary)
    blocks = [tabulate(rows, headers, tablefmt="simple", disable_numparse=True)]
    troubles = [
        [
            f"{row['number']:03d}",
            row["status"],
            headline(row["error"]),
            shown(folder / row["traceback"]) if row["traceback"] else "–",
        ]
        for row in summary["jobs"]
        if row["error"]
    ]
    if troubles:
        blocks.append(tabulate(troubles, ["job", "", "what", "traceback"], tablefmt="simple"))
    if summary["outcome"]:
        blocks.append(_words(summary["outcome"]))
    return "\n" + "\n\n".join([*blocks, f"sweep directory: {shown(folder)}"])


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


def _words(found: Mapping[str, Any]) -> str:
    return f"phase {found['phase']}: {found['verdict']}\n{found['why']}"
