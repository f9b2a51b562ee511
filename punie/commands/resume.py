"""Finish a sweep: run the jobs that are not finished, exactly as they were planned.

punie resume outputs/sweeps/NAME/ID     interrupted, failed, killed and skipped jobs run again

Refused if the plan is of another version, or if config, code or data that decide a result have changed.
"""

from __future__ import annotations

import argparse
import os

from punie.commands.overrides import path_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=path_of, help="the sweep's folder, as the sweep printed it")


def run(arguments: argparse.Namespace) -> list[str]:
    """The command line that continues the sweep, in the folder where the sweep was started."""
    from punie.config.compat import RUN_ID
    from punie.results.sweep import SweepPlan
    from punie.sweep.campaign import sweep_dir
    from punie.util.errors import PunieError

    folder = arguments.folder.absolute()
    plan = SweepPlan.read(folder)
    try:
        os.chdir(plan.cwd)
    except OSError as error:
        raise PunieError(
            "The folder where the sweep was started cannot be entered.",
            where=plan.cwd,
            found=error.strerror,
            next_step="restore it: relative paths, such as the store's, start there",
        ) from None
    os.environ[RUN_ID] = plan.run_id
    given = [line for line in plan.arguments if not line.startswith("hydra.sweep.dir=")]
    return ["-m", *given, sweep_dir(folder), "hydra.sweeper.resume=true"]
