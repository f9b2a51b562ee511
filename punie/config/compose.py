"""Composition by Hydra: where conf/ is, what the command line may say, and what went wrong, in words."""

from __future__ import annotations

import os
import re
import secrets
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from punie.config.check import TARGET, from_omegaconf, instantiates, unknown_key
from punie.config.resolvers import RUN_ID
from punie.config.schema import register
from punie.util.errors import ConfigError, PunieError
from punie.util.jsonl import excerpt
from punie.util.paths import resource

CONFIG_NAME = "config"
VERSION_BASE = "1.3"
_EXTRAS = {
    f"hydra/launcher/{launcher}": f"pip install 'punie[{extra}]'"
    for launcher, extra in (("submitit_local", "slurm"), ("submitit_slurm", "slurm"), ("ray", "ray"))
}
"""Launchers that another package brings."""
FAULTS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
"""What a faulty config raises."""
MISHAPS = (
    *FAULTS, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError,
    RecursionError, OSError,
)  # fmt: skip
"""What Hydra raises for configs that its authors did not think of; :func:`is_fault` knows it from others."""
_PHASE = re.compile(r"(?P<head>\+{0,2}phase=)(?P<values>[\w.-]+(,[\w.-]+)*)")
_RERUN = "--experimental-rerun"
_NAMES_CODE = re.compile(rf"(?<!\w){TARGET}['\"\s]*[=:]")


def refuse_code(arguments: Sequence[str]) -> None:
    """Refuse a command line that would have Hydra make an object by name, or read one from a pickle.

    What is in the config proper ``check.resolve`` refuses; Hydra's callbacks are made before that.

    Raises:
        ConfigError: An argument has a key that names what to instantiate, or is Hydra's ``_RERUN``.
    """
    for argument in arguments:
        if _NAMES_CODE.search(argument):
            raise instantiates(argument)
        option = argument.partition("=")[0]
        if len(option) > len("--") and _RERUN.startswith(option):  # argparse takes it shortened, too
            raise ConfigError(
                "A run is not read from a pickle, which can run code.",
                where=argument,
                next_step="punie reproduce RUN runs a run's config again, punie resume SWEEP a sweep's",
            )


def prepare() -> str:
    """Register the schema and name the run; returns the absolute path of conf/.

    The run's name, ``<utc>-<random>``, goes into the environment so that every worker of a sweep uses it.
    """
    register()
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    os.environ.setdefault(RUN_ID, f"{moment}-{secrets.token_hex(3)}")
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
        except MISHAPS as error:
            raise translate(error) from error


def is_fault(error: BaseException) -> bool:
    """Whether it tells of a faulty config: what comes by chance does if Hydra was reading files just then."""
    if isinstance(error, (PunieError, *FAULTS)):
        return True
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals["__name__"] == "hydra._internal.config_loader_impl" for frame, _ in frames)


def parse(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Overrides as Hydra reads them.

    Args:
        overrides: The command line's, phases quoted.
        loader: Hydra's, for ``glob``.

    Raises:
        ConfigError: One of them cannot be read; it is named.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create(config_loader=loader)
    parsed: list[Override] = []
    for override in overrides:
        try:
            parsed += parser.parse_overrides([override])
        except HydraException as error:
            raise translate(error) from error
        except MISHAPS as error:
            raise _unreadable(override, str(error)) from error
    return parsed


def translate(error: BaseException) -> PunieError:
    """An error of composing as one for people."""
    if isinstance(error, PunieError):
        return error
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return ConfigError(
            "A file of the config is not YAML.",
            where=f"{mark.name}:{mark.line + 1}",
            found=error.problem,
            next_step="mend that line; an editor that knows the file's schema shows it",
        )
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
        return _unreadable(error.override, str(error))
    if isinstance(error, AssertionError):  # OmegaConf's, of a field within what is null
        return ConfigError(
            "A field of a phase wants the phase itself.", next_step="add it before: +phase=43a"
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
    first = _first_line(error) or type(error).__name__
    if not isinstance(
        error, HydraException
    ):  # from the insides of Hydra, whose words say little by themselves
        return ConfigError(
            "The overrides do not compose.",
            found=f"{type(error).__name__}: {first}",
            next_step="python -m punie --help shows groups and options",
        )
    if isinstance(error, ConfigCompositionException) and (
        match := re.match(r"Could not override '([\w.@/-]+)'", first)
    ):
        return unknown_key(match[1])
    return ConfigError(first, next_step="python -m punie --help shows groups and options")


def _unreadable(override: str, message: str) -> ConfigError:
    return ConfigError(
        "An override cannot be read.",
        where=excerpt(override, 200),
        found=excerpt(message.strip().partition("\n")[0], 300),
        next_step="values with commas, spaces or brackets want quotes: 'name=\"a, b\"'",
    )


def _first_line(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or str(error)
    return excerpt(words.strip().partition("\n")[0], 300)


def _override_in(message: str) -> str | None:
    match = re.search(r"[Ee]rror merging override (\S+)", message)
    return match[1] if match else None


def _near(choice: str, options: list[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(choice, options, n=1)
    return f"did you mean {close[0]}?" if close else None
