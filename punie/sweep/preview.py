"""Shows a sweep's plan before it runs: jobs, distinct stages, waves, disk space and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from punie.config.command import CommandLine
from punie.config.compose import multirun
from punie.results.sweep import SweepPlan
from punie.stages import STAGES
from punie.store.keys import SHORT
from punie.sweep.plan import make
from punie.util.printable import in_bytes

_SHOWN = 30
_UNKNOWN = "unknown: one of these stages was never built before"
Figures = dict[str, Any]
"""Plain JSON values by name."""


def plan(overrides: Sequence[str]) -> SweepPlan:
    """The plan of ``python -m punie -m OVERRIDES``, without running it.

    Raises:
        PunieError: It does not compose.
    """
    with multirun(overrides) as (loader, master):
        own = [str(line) for line in master.hydra.overrides.hydra if not str(line).startswith("hydra.mode=")]
        params = {str(key): str(value) for key, value in (master.hydra.sweeper.params or {}).items()}
        return make(
            loader,
            list(master.hydra.overrides.task),
            params=params,
            hydra_overrides=own,
            flags=CommandLine.read(overrides).carried,
        )


def figures(plan: SweepPlan) -> Figures:
    """The plan as plain values: ``jobs``, ``stages``, ``waves``, ``needed_bytes``, ``seconds``."""
    missing = [part for part in plan.parts.values() if part.missing]
    known = not any(part.computes and part.seconds is None for part in missing)
    wave_of = {number: n for n, wave in enumerate(plan.waves, 1) for number in wave}
    return {
        "jobs": [
            {
                "number": job.number,
                "folder": job.folder,
                "overrides": list(job.overrides),
                "axes": plan.values(job),
                "wave": wave_of[job.number],
                "stages": {part.stage: [part.key, part.state] for part in plan.parts_of(job)},
            }
            for job in plan.jobs
        ],
        "duplicates": plan.duplicates,
        "stages": [row for stage in STAGES if (row := _stage(plan, stage.name))["distinct"]],
        "waves": [len(wave) for wave in plan.waves],
        "needed_bytes": sum(part.bytes for part in missing),
        "seconds": round(sum(part.seconds or 0.0 for part in missing), 1) if known else None,
        "sharing": list(plan.sharing),
        "problems": list(plan.problems),
    }


def text(found: Figures) -> str:
    """The figures for a terminal."""
    jobs = found["jobs"]
    axes = list(dict.fromkeys(axis for job in jobs for axis in job["axes"]))
    rows = []
    for job in jobs[:_SHOWN]:
        run = ", ".join(s for s, (_, state) in job["stages"].items() if state in ("miss", "blocked")) or "–"
        rows.append([f"{job['number']:03d}", *(job["axes"].get(axis, "") for axis in axes), job["wave"], run])
    stages = []
    for row in found["stages"]:
        seconds = "–" if row["seconds"] is None else f"{row['seconds']:.1f}"
        why = "; ".join(row["reasons"][:2]) + (" …" if len(row["reasons"]) > 2 else "")
        stages.append([row["stage"], row["distinct"], row["hit"], row["miss"], seconds, why])
    headers = ["stage", "distinct", "cached", "to run", "seconds", "why"]
    more = f"\n… and {len(jobs) - _SHOWN} more" if len(jobs) > _SHOWN else ""
    dropped = f" ({found['duplicates']} duplicates left out)" if found["duplicates"] else ""
    waves = " + ".join(map(str, found["waves"]))
    known = found["seconds"] is not None
    time = f"about {found['seconds']:.0f} s, one job at a time" if known else _UNKNOWN
    count = len(found["waves"])
    return (
        f"{tabulate(rows, ['job', *axes, 'wave', 'to run'], disable_numparse=True)}{more}\n\n"
        f"{tabulate(stages, headers, disable_numparse=True, maxcolwidths=[None] * 5 + [60])}\n\n"
        f"jobs: {len(jobs)}{dropped}, in {count} wave{'s' * (count > 1)} of {waves}\n"
        f"disk space: about {in_bytes(found['needed_bytes'])} for the stages to run\n"
        f"time: {time}" + "".join(f"\nfrozen layers: {each}" for each in found["sharing"])
    )


def _stage(plan: SweepPlan, name: str) -> Figures:
    parts = [part for part in plan.parts.values() if part.stage == name]
    missing = [part for part in parts if part.missing]
    times = [part.seconds for part in missing]
    reasons = Counter(part.reason for part in missing).most_common()
    return {
        "stage": name,
        "distinct": len(parts),
        "hit": sum(part.state == "hit" for part in parts),
        "miss": len(missing),
        "keys": [part.key if part.key.startswith("unknown") else part.key[:SHORT] for part in parts],
        "seconds": None if None in times else sum(seconds for seconds in times if seconds),
        "reasons": [f"{reason} ({count})" if count > 1 else reason for reason, count in reasons],
    }
