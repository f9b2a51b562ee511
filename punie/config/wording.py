"""Errors of Hydra, OmegaConf and YAML, worded as punie's: what, where, found, expected, next step."""

from __future__ import annotations

import re
import typing

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError

from punie.config import compat
from punie.config.fields import did_you_mean, find_field, own_fields, schema_fields
from punie.config.schema import Config
from punie.util.errors import ConfigError, PunieError
from punie.util.jsonl import excerpt
from punie.util.paths import resource

TARGET = "_target_"
"""The key under which Hydra looks for the name of what to instantiate."""
_HELP = "python -m punie --help lists groups and options"
_EXTRAS = {"submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}
"""Launchers of other packages, and the extra of punie that installs each."""


def translate(error: Exception) -> PunieError:
    """An error raised while composing, worded as punie's."""
    if isinstance(error, PunieError):
        return error
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        where = f"{mark.name}:{mark.line + 1}"
        return ConfigError(
            "A config file is not YAML.", where=where, found=error.problem, next_step="fix that line"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_option(error)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, error)
    if compat.is_within_null(error):
        return ConfigError(
            "`phase.*` is set, but no phase is selected.", next_step="add one before it: +phase=43a"
        )
    key = compat.unknown_override(error)
    if key == "phase":
        return ConfigError("A phase needs a plus: it is added to the config.", next_step="write +phase=43a")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException):
            return from_omegaconf(cause, compat.failed_override(error))
        cause = cause.__cause__
    if key is not None:
        return unknown_key(key)
    first = _first_line(error) or type(error).__name__
    if isinstance(error, HydraException):
        return ConfigError(first, next_step=_HELP)
    return ConfigError(
        "The overrides do not compose.", found=f"{type(error).__name__}: {first}", next_step=_HELP
    )


def from_omegaconf(error: OmegaConfBaseException, override: str | None = None) -> ConfigError:
    """An error of OmegaConf, worded as punie's, with the override that led to it."""
    key = str(error.full_key or error.key or "")
    message = _first_line(error)
    if isinstance(error, InterpolationResolutionError):
        if words := compat.refusal(error):
            what = f"{key or 'A value'} cannot be resolved."
            return ConfigError(what, where=override, found=excerpt(words, 300))
        return ConfigError(message, where=override or key or None)
    known = find_field(key)
    if known is not None:
        return ConfigError(f"{key}: {message}.", where=override, expected=known.describe())
    if isinstance(error, ValidationError):  # a field of Hydra's own, such as n_jobs of a launcher
        return ConfigError(f"{key}: {message}.", where=override)
    return unknown_key(key, override) if key else ConfigError(message, where=override)


def unknown_key(key: str, override: str | None = None) -> ConfigError:
    """The error for a key that is not in the schema, with the nearest one that is."""
    parent, _, leaf = key.rpartition(".")
    group = find_field(parent)
    if group and typing.get_origin(group.hint) is dict:
        what, remedy = f"{parent} has no {leaf} yet.", f"add it with a plus: +{key}=..."
        return ConfigError(what, where=override, next_step=remedy)
    owner = group.inner if group else None if parent else Config
    siblings = {name: f"{parent}.{name}".lstrip(".") for name in own_fields(owner)} if owner else {}
    if parent == "track":
        remedy = "servers and keys are in the libraries' environment variables, such as MLFLOW_TRACKING_URI"
        return ConfigError(
            f"Unknown key {key}.", expected="track.trackers or track.project", next_step=remedy
        )
    everywhere = {known.key.rpartition(".")[2]: known.key for known in schema_fields()}
    same = {name: field for name, field in everywhere.items() if name == leaf}
    return ConfigError(
        f"Unknown key {excerpt(key, 200)}.",
        where=override,
        expected=f"one of {', '.join(siblings)}" if siblings else None,
        next_step=did_you_mean(leaf, same, siblings, everywhere)
        or "python -m punie --cfg job lists every key",
    )


def instantiates(key: str) -> ConfigError:
    """The error for a key that would make Hydra instantiate an object by name."""
    return ConfigError("A config cannot name code to run.", where=key, expected="values only")


def unreadable(override: str, error: Exception) -> ConfigError:
    """The error for an override that Hydra cannot parse."""
    remedy = "quote values with commas, spaces or brackets: 'name=\"a, b\"'"
    if re.search(r"[=,\[( ]~", override):
        remedy = "a value with ~ needs quotes: 'data.path=\"~/folder\"'; or write $HOME in its place"
    return ConfigError(
        "An override cannot be parsed.",
        where=excerpt(override, 200),
        found=_first_line(error),
        next_step=remedy,
    )


def _no_option(error: MissingConfigException) -> ConfigError:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    options = sorted(map(str, error.options or []))
    if not options and group:  # of several, as in track=[a,b], Hydra does not say
        options = sorted(path.stem for path in (resource("conf") / group).glob("*.yaml"))
    extra = _EXTRAS.get(choice) if group == "hydra/launcher" else None
    other = "any other of the hub: model=hub model.repo=OWNER/NAME" if group == "model" else None
    return ConfigError(
        f"There is no {group} called {choice}." if group else f"There is no config called {choice}.",
        where=f"{group}={choice}",
        expected=f"one of {', '.join(options)}" if options else None,
        next_step=f"pip install 'punie[{extra}]'" if extra else did_you_mean(choice, options) or other,
    )


def _first_line(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or getattr(error, "msg", None) or str(error)
    return excerpt(str(words).strip().partition("\n")[0], 300)
