"""Composition by Hydra: where conf/ is, and what the command line may contain."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from punie.config import compat
from punie.config.check import resolve
from punie.config.command import CommandLine, parse, require_one_value, require_taken
from punie.config.compat import RAISED, RUN_ID
from punie.config.schema import SCHEDULES, Config
from punie.config.wording import translate
from punie.util.paths import resource

T = TypeVar("T")
_MODE = "hydra.mode=MULTIRUN"


def prepare() -> str:
    """Register the schema and name the run; returns the absolute path of conf/.

    The run's name, ``<utc>-<random>``, goes into the environment, so that every worker of a sweep uses it.
    """
    compat.store_schema("punie_schema", Config)
    compat.store_names("lora/lr_schedule", tuple(SCHEDULES))
    compat.store_nothing("lora/schedule", "own")
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    os.environ.setdefault(RUN_ID, f"{moment}-{secrets.token_hex(3)}")
    return str(resource("conf"))


def compose(arguments: Sequence[str]) -> DictConfig:
    """The config of a run with these overrides and flags, without running it, and without Hydra's part.

    Raises:
        PunieError: It does not compose.
    """
    with _initialized(line := CommandLine.read(arguments)):
        return _without_hydra(_single(line))


class Composition(NamedTuple):
    """The config of one run."""

    composed: DictConfig
    config: Config
    folder: str | None
    """Where it would be written; None if only a running job can tell."""
    multirun: bool
    """A preset makes it a sweep."""


def composition(arguments: Sequence[str]) -> Composition:
    """The config of a run, composed and checked, with Hydra's part.

    Raises:
        PunieError: It does not compose, or cannot be used.
    """
    with _initialized(line := CommandLine.read(arguments)):
        found = _single(line)
        multirun = found.hydra.mode is RunMode.MULTIRUN
        require_taken(found.hydra, multirun=multirun)
        try:
            folder = None if multirun else str(found.hydra.run.dir)
        except OmegaConfBaseException:
            folder = None
        loader, composed = GlobalHydra.instance().config_loader(), _without_hydra(found)
        known = functools.partial(phases_of, loader, line.config_name, line.overrides)
        return Composition(composed, resolve(composed, known), folder, multirun)


def phases_of(loader: ConfigLoader, config_name: str, overrides: Sequence[str]) -> list[str]:
    """The phases on the search path of a command line."""
    searched = [each for each in overrides if each.startswith("hydra.searchpath=")]
    return worded(lambda: loader.get_group_options("phase", None, config_name, searched))


def phases(arguments: Sequence[str]) -> list[str]:
    """The phases that a command line may name.

    Raises:
        PunieError: Its search path cannot be read.
    """
    with _initialized(line := CommandLine.read(arguments)):
        return phases_of(GlobalHydra.instance().config_loader(), line.config_name, line.overrides)


def sweeps(line: CommandLine) -> bool:
    """Whether a command line is a sweep: by ``-m``, or with several values by a preset's ``hydra.mode``.

    Raises:
        PunieError: It does not compose.
    """
    if line.multirun or not any(each.is_sweep_override() for each in _parsed(line)):
        return line.multirun
    with _initialized(line):
        return _master(line).hydra.mode is RunMode.MULTIRUN


@contextlib.contextmanager
def multirun(arguments: Sequence[str]) -> Generator[tuple[ConfigLoader, DictConfig]]:
    """Hydra's loader and the config of a sweep with these overrides and flags, Hydra's own part included.

    Raises:
        PunieError: It does not compose.
    """
    line = CommandLine.read(arguments)
    with _initialized(line):
        master = _master(line, _MODE)
        require_taken(master.hydra, multirun=True)
        yield GlobalHydra.instance().config_loader(), master


def _single(line: CommandLine) -> DictConfig:
    require_one_value(_parsed(line))
    words = [*line.overrides]
    return worded(lambda: hydra.compose(line.config_name, overrides=words, return_hydra_config=True))


def _master(line: CommandLine, *more: str) -> DictConfig:
    loader = GlobalHydra.instance().config_loader()
    words = [*line.overrides, *more]
    return worded(
        lambda: loader.load_configuration(
            line.config_name, words, RunMode.MULTIRUN, validate_sweep_overrides=False
        )
    )


def _parsed(line: CommandLine) -> list[Override]:
    return parse([each for each in line.overrides if "=" in each])


def _without_hydra(composed: DictConfig) -> DictConfig:
    with open_dict(composed):
        del composed["hydra"]
    return composed


@contextlib.contextmanager
def _initialized(line: CommandLine) -> Generator[None]:
    with hydra.initialize_config_dir(prepare(), job_name="punie", **compat.version_base()):
        if line.config_dir is not None:
            compat.add_presets(line.config_dir)
        yield


def worded(call: Callable[[], T]) -> T:
    """What a call of Hydra or OmegaConf gives.

    Raises:
        PunieError: The call raised an error, which is worded as punie's.
    """
    try:
        return call()
    except RAISED as error:
        raise translate(error) from error
