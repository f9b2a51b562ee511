"""Composition by Hydra: where conf/ is, what the command line may say, and what went wrong, in words."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from punie.config.check import from_omegaconf, unknown_key
from punie.config.schema import register
from punie.errors import ConfigError, PunieError
from punie.paths import resource

CONFIG_NAME = "config"
VERSION_BASE = "1.3"
_EXTRAS = {
    f"hydra/launcher/{launcher}": f"pip install 'punie[{extra}]'"
    for launcher, extra in (("submitit_local", "slurm"), ("submitit_slurm", "slurm"), ("ray", "ray"))
}
"""Launchers that another package brings."""
_PHASE = re.compile(r"(?P<head>\+{0,2}phase=)(?P<values>[\w.-]+(,[\w.-]+)*)")


def prepare() -> str:
    """Register the schema and name the run; returns the absolute path of conf/.

    The run's name, ``<utc>-<random>``, goes into the environment so that every worker of a sweep uses it.
    """
    register()
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    os.environ.setdefault("PUNIE_RUN_ID", f"{moment}-{secrets.token_hex(3)}")
    return str(resource("conf"))


def quote_phases(arguments: Sequence[str]) -> list[str]:
    """Arguments with the values of ``phase`` quoted: Hydra takes 45 for a number and refuses it."""
    quoted = []
    for argument in arguments:
        if match := _PHASE.fullmatch(argument):
            values = ",".join(f"'{value}'" for value in match["values"].split(","))
            argument = match["head"] + values
        quoted.append(argument)
    return quoted


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of a run with these overrides, without running it.

    Raises:
        PunieError: It does not compose.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(prepare(), version_base=VERSION_BASE, job_name="punie"):
        try:
            return hydra_compose(CONFIG_NAME, overrides=quote_phases(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise translate(error) from error


def translate(error: BaseException) -> PunieError:
    """A Hydra or OmegaConf error as one for people."""
    if isinstance(error, PunieError):
        return error
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = sorted(str(option) for option in error.options or [])
        return ConfigError(
            f"There is no {group} called {choice}." if group else f"There is no config called {choice}.",
            where=f"{group}={choice}",
            expected=f"one of {', '.join(options)}" if options else None,
            next_step=_EXTRAS.get(str(error.missing_cfg_file)) or _near(choice, options),
        )
    if isinstance(error, OverrideParseException):
        return ConfigError(
            "An override cannot be read.",
            where=error.override,
            found=str(error).strip().splitlines()[0],
            next_step="values with commas, spaces or brackets want quotes: 'name=\"a, b\"'",
        )
    if str(error).startswith("Could not override 'phase'"):
        return ConfigError(
            "A phase is added to the config, not overridden.", next_step="write it with a plus: +phase=43a"
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException):
            return from_omegaconf(cause, _override_in(str(error)))
        cause = cause.__cause__
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, ConfigCompositionException) and (
        match := re.match(r"Could not override '([\w.@/-]+)'", first)
    ):
        return unknown_key(match[1])
    return ConfigError(first, next_step="python -m punie --help shows groups and options")


def _override_in(message: str) -> str | None:
    match = re.search(r"[Ee]rror merging override (\S+)", message)
    return match[1] if match else None


def _near(choice: str, options: list[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(choice, options, n=1)
    return f"did you mean {close[0]}?" if close else None
