"""Shows a sweep's plan before it runs: jobs, distinct stages, waves, disk space and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from punie.config.compose import multirun
from punie.results.sweep import SweepPlan
from punie.stages import STAGES
from punie.store.keys import SHORT
from punie.sweep.plan import make
from punie.util.printable import in_bytes

_SHOWN = 30


def plan(overrides: Sequence[str]) -> SweepPlan:
    """The plan of ``python -m punie -m OVERRIDES``, without running it.

    Raises:
        PunieError: It does not compose.
    """
    with multirun(overrides) as (loader, master):
        own = [str(line) for line in master.hydra.overrides.hydra if not str(line).startswith("hydra.mode=")]
        params = {str(key): str(value) for key, value in (master.hydra.sweeper.params or {}).items()}
        return make(loader, list(master.hydra.overrides.task), params=params, hydra_overrides=own)


def figures(plan: SweepPlan) -> dict[str, Any]:
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
        "stages": [row for stage in STAGES if (row := _stage(plan, stage.name))],
        "waves": [len(wave) for wave in plan.waves],
        "needed_bytes": sum(part.bytes for part in missing),
        "seconds": round(sum(part.seconds or 0.0 for part in missing), 1) if known else None,
        "problems": list(plan.problems),
    }


def text(found: Mapping[str, Any]) -> str:
    """The figures for a terminal.

    Args:
        found: What ``figures`` returned.
    """
    jobs, stages = found["jobs"], found["stages"]
    axes = list(dict.fromkeys(axis for job in jobs for axis in job["axes"]))
    rows = [
        [
            f"{job['number']:03d}",
            *(job["axes"].get(axis, "") for axis in axes),
            job["wave"],
            ", ".join(s for s, (_, state) in job["stages"].items() if state in ("miss", "blocked")) or "–",
        ]
        for job in jobs[:_SHOWN]
    ]
    blocks = [
        tabulate(rows, ["job", *axes, "wave", "to run"], disable_numparse=True)
        + (f"\n… and {len(jobs) - _SHOWN} more" if len(jobs) > _SHOWN else ""),
        tabulate(
            [
                [
                    row["stage"],
                    row["distinct"],
                    row["hit"],
                    row["miss"],
                    "–" if row["seconds"] is None else f"{row['seconds']:.1f}",
                    "; ".join(row["reasons"][:2]) + (" …" if len(row["reasons"]) > 2 else ""),
                ]
                for row in stages
            ],
            ["stage", "distinct", "cached", "to run", "seconds", "why"],
            disable_numparse=True,
            maxcolwidths=[None] * 5 + [60],
        ),
    ]
    dropped = f" ({found['duplicates']} duplicates left out)" if found["duplicates"] else ""
    waves = " + ".join(map(str, found["waves"]))
    seconds = found["seconds"]
    time = "unknown: one of these stages was never built before"
    if seconds is not None:
        time = f"about {seconds:.0f} s, one job at a time"
    count = len(found["waves"])
    blocks.append(
        f"jobs: {len(jobs)}{dropped}, in {count} wave{'s' * (count > 1)} of {waves}\n"
        f"disk space: about {in_bytes(found['needed_bytes'])} for the stages to run\n"
        f"time: {time}"
    )
    return "\n\n".join(blocks)


def _stage(plan: SweepPlan, name: str) -> dict[str, Any] | None:
    parts = [part for part in plan.parts.values() if part.stage == name]
    if not parts:
        return None
    missing = [part for part in parts if part.missing]
    times = [part.seconds for part in missing]
    reasons = Counter(part.reason for part in missing)
    return {
        "stage": name,
        "distinct": len(parts),
        "hit": sum(part.state == "hit" for part in parts),
        "miss": len(missing),
        "keys": [part.key if part.key.startswith("unknown") else part.key[:SHORT] for part in parts],
        "seconds": None if None in times else sum(seconds for seconds in times if seconds),
        "reasons": [
            f"{reason} ({count})" if count > 1 else reason for reason, count in reasons.most_common()
        ],
    }
