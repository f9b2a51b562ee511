"""Show what a run would do, without running it: each stage's key, hit or miss and why, and the disk it takes.

punie plan                          the default run
punie plan +phase=43a model=tiny    with overrides, as for python -m punie
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tabulate import tabulate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "overrides", nargs="*", help="as for python -m punie: GROUP=OPTION, key=value, +phase=NAME"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; 1 if the run could not start."""
    from punie import pipeline
    from punie.config import resolve
    from punie.config.compose import compose
    from punie.stages import preflight
    from punie.store.artifacts import Store
    from punie.store.keys import SHORT

    config = resolve(compose(arguments.overrides))
    plan = pipeline.plan(config, Store(Path(config.store.dir)))
    rows = [
        {
            "stage": step.stage.name,
            "key": step.key,
            "state": "hit" if step.artifact else ("blocked" if step.problem else "miss"),
            "reason": step.reason,
        }
        for step in plan.steps
    ]
    problems = [str(problem) for problem in preflight.machine(config, plan.needed_bytes, plan.parameters)]
    if arguments.json:
        print(json.dumps({"stages": rows, "needed_bytes": plan.needed_bytes, "problems": problems}, indent=1))
        return 1 if problems else 0
    shown = [[r["stage"], (r["key"] or "–")[:SHORT], r["state"], r["reason"]] for r in rows]
    print(
        tabulate(shown, ["stage", "key", "", "why"], tablefmt="simple", maxcolwidths=[None, None, None, 60])
    )
    print(f"\ndisk: about {plan.needed_bytes / 1e9:.3g} GB for what is missing, in {config.store.dir}")
    for problem in problems:
        print(f"\nproblem: {problem}")
    overrides = " ".join(arguments.overrides)
    print(f"next: python -m punie {overrides}".rstrip())
    return 1 if problems else 0
