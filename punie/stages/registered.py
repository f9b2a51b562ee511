"""What of a config decides a result: the fields, and the content of the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from punie.config.schema import Config
from punie.config.targets import DECIDING
from punie.model.resolve import NotCached
from punie.results.config import SOURCES
from punie.stages import STAGES
from punie.stages.contract import Contents, Stage


def fields(config: Config) -> Contents:
    """The fields that decide the result, by dotted name, those that say where the inputs are among them."""
    found = {key: value for stage in _stages() for key, value in stage.identity(config).items()}
    for group, _, name in (key.partition(".") for keys in SOURCES.values() for key in keys):
        found[f"{group}.{name}"] = getattr(getattr(config, group), name)
    return found


def inputs(config: Config) -> Contents:
    """Digests of the inputs that are on this machine: of the model, the data, the suites.

    Raises:
        PunieError: Data or a suite is not there; a model that is still to be downloaded is left out.
    """
    found: list[Mapping[str, Any]] = []
    for stage in _stages():
        try:
            found.append(stage.contents(stage.settings(config)))
        except NotCached:
            continue
    return merged(found)


def merged(contents: Iterable[Mapping[str, Any]]) -> Contents:
    """The inputs of several stages as one; a stage may read a part of an input, such as one split."""
    found: Contents = {}
    for each in contents:
        for name, value in each.items():
            found[name] = {**found.get(name, {}), **value} if isinstance(value, Mapping) else value
    return found


def _stages() -> list[Stage]:
    return [stage for stage in STAGES if stage.name in DECIDING]
