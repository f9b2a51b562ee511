"""The pipeline's stages, one file each; here config, core and I/O meet.

Adding a stage is one file, imported here, and one line in ``STAGES``: CONTRIBUTING has an example.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from punie.config.schema import Config
from punie.config.targets import DECIDING
from punie.model.resolve import NotCached
from punie.stages import base, evaluate, likelihood, preflight, quantize, report, train
from punie.stages.contract import Contents, Stage

STAGES: tuple[Stage, ...] = (
    preflight.STAGE,
    base.STAGE,
    train.STAGE,
    quantize.STAGE,
    evaluate.STAGE,
    likelihood.STAGE,
    report.STAGE,
)
"""In the order they run."""

COPIES = {stage.name: stage.shows for stage in STAGES if stage.shows}
"""The files a run directory takes from the store, by stage."""

_DECIDING: list[Stage] = [stage for stage in STAGES if stage.name in DECIDING]


def deciding_fields(config: Config) -> Contents:
    """The fields that decide the result, by dotted name, those that say where the inputs are among them."""
    from punie.results.config import SOURCES

    found = {key: value for stage in _DECIDING for key, value in stage.identity(config).items()}
    for group, _, name in (key.partition(".") for keys in SOURCES.values() for key in keys):
        found[f"{group}.{name}"] = getattr(getattr(config, group), name)
    return found


def deciding_inputs(config: Config) -> Contents:
    """Digests of the inputs that are on this machine: of the model, the data, the suites.

    Raises:
        PunieError: Data or a suite is not there; a model that is still to be downloaded is left out.
    """
    found: list[Mapping[str, Any]] = []
    for stage in _DECIDING:
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
