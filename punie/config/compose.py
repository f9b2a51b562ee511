"""Composition by Hydra: where conf/ is, and what the command line may contain."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from punie.config import compat
from punie.config.compat import RAISED, RUN_ID
from punie.config.schema import SCHEDULES, Config
from punie.config.wording import TARGET, instantiates, translate, unreadable
from punie.util.errors import ConfigError
from punie.util.paths import resource

T = TypeVar("T")
CONFIG_NAME = "config"
_PHASE = re.compile(r"(?P<head>\+{0,2}phase=)(?P<values>[\w.-]+(,[\w.-]+)*)")
_RERUN = "--experimental-rerun"
_MODE = "hydra.mode=MULTIRUN"
_NAMES_CODE = re.compile(rf"(?<!\w){TARGET}['\"\s]*[=:]")


def refuse_code(arguments: Sequence[str]) -> None:
    """Refuse a command line that makes Hydra instantiate an object by name, or read a pickle.

    ``check.resolve`` refuses this in the config proper, but Hydra creates its callbacks before that.

    Raises:
        ConfigError: An argument has a key that names what to instantiate, or is Hydra's ``_RERUN``.
    """
    for argument in arguments:
        if _NAMES_CODE.search(argument):
            raise instantiates(argument)
        option = argument.partition("=")[0]
        if len(option) > len("--") and _RERUN.startswith(option):  # argparse takes it abbreviated, too
            raise ConfigError(
                "A run is not read from a pickle, which can run code.",
                where=argument,
                next_step="punie reproduce RUN repeats a run, punie resume SWEEP continues a sweep",
            )


def prepare() -> str:
    """Register the schema and name the run; returns the absolute path of conf/.

    The run's name, ``<utc>-<random>``, goes into the environment, so that every worker of a sweep uses it.
    """
    compat.store_schema("punie_schema", Config)
    compat.store_names("lora/lr_schedule", tuple(SCHEDULES))
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    os.environ.setdefault(RUN_ID, f"{moment}-{secrets.token_hex(3)}")
    return str(resource("conf"))


def quote_phases(arguments: Sequence[str]) -> list[str]:
    """Arguments with the values of ``phase`` quoted: Hydra reads 45 as a number and refuses it."""
    return [
        match["head"] + ",".join(f"'{value}'" for value in match["values"].split(","))
        if (match := _PHASE.fullmatch(argument))
        else argument
        for argument in arguments
    ]


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of a run with these overrides, without running it.

    Raises:
        PunieError: It does not compose.
    """
    with _initialized():
        return worded(lambda: hydra.compose(CONFIG_NAME, overrides=quote_phases(overrides)))


@contextlib.contextmanager
def multirun(overrides: Sequence[str]) -> Generator[tuple[ConfigLoader, DictConfig]]:
    """Hydra's loader and the config of a sweep with these overrides, Hydra's own part included.

    Raises:
        PunieError: It does not compose.
    """
    lines = [*quote_phases(overrides), _MODE]
    with _initialized():
        loader = GlobalHydra.instance().config_loader()
        yield loader, worded(lambda: loader.load_configuration(CONFIG_NAME, lines, RunMode.MULTIRUN))


def _initialized() -> contextlib.AbstractContextManager[None]:
    return hydra.initialize_config_dir(prepare(), job_name="punie", **compat.version_base())


def worded(call: Callable[[], T]) -> T:
    """What a call of Hydra or OmegaConf gives.

    Raises:
        PunieError: The call raised an error, which is worded as punie's.
    """
    try:
        return call()
    except RAISED as error:
        raise translate(error) from error


def parse(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Overrides as Hydra parses them; ``glob`` needs Hydra's loader.

    Raises:
        ConfigError: One of them cannot be parsed; it is named.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed: list[Override] = []
    for override in overrides:
        try:
            parsed += parser.parse_overrides([override])
        except HydraException as error:
            raise translate(error) from error
        except RAISED as error:
            raise unreadable(override, error) from error
    return parsed
