"""The strict check of a composed config: all problems in one report.

OmegaConf checks types while Hydra composes. The rest is checked here and in ``punie.config.rules``.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from punie.config.fields import find_field, own_fields
from punie.config.rules import broken
from punie.config.schema import Config
from punie.config.wording import TARGET, from_omegaconf, instantiates, unknown_key
from punie.util.errors import ConfigError, Problems
from punie.util.jsonl import excerpt
from punie.util.printable import without_passwords


def resolve(composed: DictConfig) -> Config:
    """The composed config as checked, typed objects.

    Args:
        composed: What Hydra composed, without its own ``hydra`` node.

    Raises:
        Problems: Unknown keys, missing or unresolvable values, wrong types, values out of range or not
            among the choices: all of them in one report.
    """
    problems = list(_structure(OmegaConf.to_container(composed, resolve=False), Config, ""))
    if not problems:
        try:
            config = typing.cast(Config, OmegaConf.to_object(composed))
        except OmegaConfBaseException as error:
            problems = [from_omegaconf(error)]
        else:
            problems = [*_values(config, ""), *broken(config)]
            if not problems:
                return config
    raise Problems("The config cannot be used:", problems, exit_code=ConfigError.exit_code)


def _structure(node: Any, owner: type | None, key: str) -> Iterator[ConfigError]:
    """Unknown keys, missing values, and keys that name code, however deep.

    Args:
        node: Plain values, interpolations not resolved.
        owner: The dataclass that a mapping stands for; None where any key is allowed.
        key: Dotted name of the node.
    """
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _structure(item, owner, f"{key}.{index}" if owner is None else key)
    elif isinstance(node, Mapping):
        fields = own_fields(owner) if owner else None
        for name, value in node.items():
            inside = f"{key}.{name}".lstrip(".")
            if name == TARGET:
                yield instantiates(inside)
            elif fields is not None and name not in fields:
                yield unknown_key(inside)
            else:
                yield from _structure(value, fields[name].inner if fields else None, inside)
    elif node == MISSING:
        known = find_field(key)
        yield ConfigError(
            f"{key} has no value.", expected=known and known.describe(), next_step=f"set it: {key}=..."
        )


def _values(node: Any, prefix: str) -> Iterator[ConfigError]:
    """Values out of range or not among the choices, and URLs with a password."""
    for name, known in own_fields(type(node)).items():
        key, value = f"{prefix}{name}", getattr(node, name)
        if known.inner is not None:
            for child in value if isinstance(value, list) else [value]:
                yield from _values(child, f"{key}.") if dataclasses.is_dataclass(child) else ()
        elif not known.allows(value):
            yield ConfigError(f"{key} is out of range.", found=excerpt(value, 200), expected=known.describe())
        elif isinstance(value, str) and (shown := without_passwords(value)) != value:
            yield ConfigError(
                f"{key} holds a user or a password, which would be written to every file of the run.",
                found=shown,
                expected="a URL without them",
                next_step="put them into ~/.netrc: machine HOST login USER password PASSWORD",
            )
