"""Send a run or a sweep to trackers from its files: again after a failure, or for the first time.

punie track outputs/runs/NAME/ID                    to the trackers of its config (track=NAME)
punie track outputs/sweeps/NAME/ID --to mlflow      the sweep and its jobs, to MLflow

A run always has the same id: what a tracker has of it is completed or replaced, and nothing is there twice.
Servers and keys are in the environment variables of the libraries, such as MLFLOW_TRACKING_URI and
WANDB_API_KEY. The exit code is 1 if a tracker does not take everything.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from punie.commands.overrides import path_of
from punie.train.callbacks import CALLBACKS
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.config.schema import TrackConfig
    from punie.track.tracker import Message


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("folder", type=path_of, metavar="RUN|SWEEP", help="its directory")
    words = f"instead of the config's: {', '.join(CALLBACKS)}; may be repeated"
    parser.add_argument("--to", action="append", choices=[*CALLBACKS], metavar="NAME", help=words)


def run(arguments: argparse.Namespace) -> int:
    """Send what has begun, and say how much that was.

    Raises:
        PunieError: It goes on, no tracker is named or installed, or one does not take it.
    """
    from punie.results.run import CONFIG
    from punie.results.sweep import PLAN, SweepPlan
    from punie.run.directory import is_locked
    from punie.track import packages, tracker

    folder: Path = arguments.folder
    if is_locked(folder):
        raise PunieError("It is still running.", where=folder, next_step="wait for its end")
    jobs = [folder]
    is_sweep = (folder / PLAN).exists()
    if is_sweep:
        jobs = [folder / job.folder for job in SweepPlan.read(folder).jobs]
    begun = [job for job in jobs if (job / CONFIG).exists()]
    if not begun:
        raise PunieError(
            "This is not the directory of a run or a sweep that has begun.",
            where=folder,
            expected="the path that a run or a sweep prints at its end",
        )
    options = _options(begun[0], arguments.to or ())
    packages.require(options)
    of = f" of {len(begun)} of {len(jobs)} jobs" if is_sweep else ""
    for name in packages.chosen(options):
        told = [*([tracker.sweep_again(folder)] if is_sweep else []), *map(tracker.run_again, begun)]
        sent = sum(_send(name, options.project, messages) for messages in told)
        print(f"{name} took {sent} messages{of}")
    return 0


def _options(job: Path, to: Sequence[str]) -> TrackConfig:
    """Where a run is sent: to what the command names, else to what its config does."""
    from punie.config.schema import TrackConfig
    from punie.results.config import RunConfig
    from punie.results.run import CONFIG

    config = RunConfig.read(job / CONFIG)
    found, project = config.value("track.trackers"), config.value("track.project")
    on = to or [name for name in CALLBACKS if isinstance(found, Mapping) and found.get(name) is True]
    if not on:
        raise PunieError(
            "No tracker is named.",
            where=job,
            found="a run without track=NAME",
            expected=f"one of {', '.join(CALLBACKS)}",
            next_step="add --to NAME",
        )
    return TrackConfig(dict.fromkeys(on, True), project if isinstance(project, str) else None)


def _send(name: str, project: str | None, messages: Iterable[Message]) -> int:
    from punie.track.delivery import problem

    to, sent = resolve_name(CALLBACKS[name])(project), 0
    for method, values in messages:
        try:
            getattr(to, method)(**values)
        except PunieError:
            raise
        except Exception as error:  # of the tracker's library, which raises what it likes
            raise PunieError(
                f"{name} did not take a message.",
                where=values.get("folder"),
                found=problem(error),
                next_step="the same command sends everything again, nothing twice",
            ) from error
        sent += 1
    return sent
