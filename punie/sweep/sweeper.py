"""From a command line to a frozen plan, its folder held, and the campaign that runs it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from punie.config.command import carried
from punie.results.sweep import SweepPlan
from punie.run.directory import LOCK
from punie.sweep import slurm
from punie.sweep.campaign import Campaign
from punie.sweep.plan import changes, freeze, make
from punie.track import packages
from punie.util.errors import PunieError

_OWN = ("hydra.mode=", "hydra.sweeper.resume=")
"""Hydra's overrides that are not the user's."""


def sweep(
    config: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    arguments: Sequence[str],
    *,
    params: Mapping[str, str],
    resume: bool,
) -> None:
    """Run every job of a sweep that is not finished, and write its summary.

    ``config`` is Hydra's own, shared with the launcher; ``params`` are a preset's axes. With ``resume`` the
    sweep is the one that ``hydra.sweep.dir`` holds.
    """
    overrides = [str(line) for line in config.hydra.overrides.hydra if not str(line).startswith(_OWN)]
    flags = [each for each in carried(config.hydra) if each.startswith("--")]
    plan = make(loader, arguments, params=params, hydra_overrides=overrides, flags=flags)
    packages.require(plan.jobs[0].typed().track)
    first = loader.load_sweep_config(config, list(plan.jobs[0].overrides))
    folder = Path(str(first.hydra.sweep.dir)).absolute()
    with open_dict(config):  # the launcher's too: an axis such as model= must not divide the folder
        config.hydra.sweep.dir = str(folder)
    slurm.watch(str(OmegaConf.select(config, "hydra.launcher._target_")))
    if resume:
        SweepPlan.read(folder)  # before anything is written where there is no sweep
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(folder / LOCK, timeout=0))
        except Timeout:
            raise PunieError(
                "A sweep is running in this folder.",
                where=folder,
                next_step="wait for its end, or stop it; without hydra.sweep.dir a sweep has its own folder",
            ) from None
        if resume:
            _require_unchanged(SweepPlan.read(folder), plan, folder)
        else:
            freeze(plan, folder)
        Campaign(plan, folder, launcher.launch).run()


def _require_unchanged(old: SweepPlan, new: SweepPlan, folder: Path) -> None:
    """Refuse a plan of other jobs than the frozen one: only what is missing may differ."""
    if found := changes(old, new):
        raise PunieError(
            "The sweep cannot go on: what decides its results has changed.",
            where=folder,
            found="; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else ""),
            expected="the plan as it was frozen",
            next_step="undo the change, or give the command again: what is the same is reused",
        )
