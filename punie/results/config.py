"""A run's resolved config as results use it: by dotted name, whatever version of punie wrote it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from pydantic import ValidationError

from punie.config.decisions import PhaseConfig
from punie.config.fields import find_field
from punie.results.files import problem, unreadable
from punie.results.records import Phase
from punie.store.keys import digest
from punie.util.plain import require_plain_yaml

if TYPE_CHECKING:
    from punie.config.schema import Config

SEED, SAMPLING_SEED, TEMPERATURE = "lora.seed", "eval.seed", "eval.temperature"
"""The training seed, the seed of sampling, the temperature: each has one definition, here."""
SOURCES = {
    "model": ("model.embedded", "model.path", "model.package", "model.repo", "model.revision", "model.dtype"),
    "data": (
        "data.path",
        "data.repo",
        "data.revision",
        "data.config",
        "data.train_split",
        "data.valid_split",
    ),
    "suite": ("eval.suite",),
    "select_suite": ("lora.select_suite",),
}
"""By input, the fields that say where it is. They count only where its digest is not known on both sides, as
for a model that is not on this machine."""
_KIND = "a run's config"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class RunConfig:
    """A resolved config, as plain values."""

    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """A run's config.yaml.

        Raises:
            DataError: It is missing, no YAML mapping, or lacks what every result needs.
        """
        try:
            text = path.read_text("utf-8")
            require_plain_yaml(text)
            values = yaml.load(text, _LOADER)  # noqa: S506 - it is a safe loader
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise unreadable(path, _KIND, error) from None
        return cls.parse(values, path)

    @classmethod
    def parse(cls, values: object, path: Path) -> RunConfig:
        """A config from plain values; ``path`` is for errors.

        Raises:
            DataError: It is no mapping, or lacks what every result needs.
        """
        if not isinstance(values, Mapping):
            raise unreadable(path, _KIND, "no mapping")
        found = cls(values)
        try:
            float(found.temperature), int(found.seed), found.phase, found.sha256
        except ValidationError as error:
            raise unreadable(path, _KIND, f"phase.{problem(error)}") from None
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise unreadable(path, _KIND, error) from None
        return found

    def value(self, key: str) -> Any:
        """A field by dotted name; a field that is newer than the run has the value it stands for."""
        node: Any = self.values
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return _omitted(key) if node is None else node

    def comparable(self, key: str) -> Any:
        """A field's value as something that can be compared and hashed."""
        value = self.value(key)
        return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value

    @property
    def seed(self) -> int:
        """The training seed, ``lora.seed``; 0 for the base model, which no seed of ours has touched."""
        return 0 if self.value("eval.target") == "base" else int(self.value(SEED))

    @property
    def temperature(self) -> float:
        """Of sampling."""
        return float(self.value(TEMPERATURE))

    @cached_property
    def phase(self) -> Phase | None:
        """The phase, if the run has one."""
        values = self.values.get("phase")
        return None if values is None else Phase.model_validate(values)

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.values.get("name", ""))

    def typed(self, path: Path) -> Config:
        """The config as checked, typed objects, to run it again; ``path`` is for errors.

        Raises:
            PunieError: It is no config of this version.
        """
        from omegaconf import DictConfig, OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        from punie.config import resolve
        from punie.config.schema import Config

        try:
            merged = OmegaConf.merge(OmegaConf.structured(Config), dict(self.values))
        except (ValueError, TypeError, AssertionError, OmegaConfBaseException) as error:
            raise unreadable(path, _KIND, str(error)) from None
        return resolve(cast(DictConfig, merged))

    @cached_property
    def sha256(self) -> str:
        """Digest of the whole config."""
        return digest("config", self.values)


def phase_record(phase: PhaseConfig | None) -> Phase | None:
    """A composed phase as results hold it."""
    return None if phase is None else Phase.model_validate(dataclasses.asdict(phase))


@cache
def _omitted(key: str) -> Any:
    """The value that a field stands for in a run that is older than the field."""
    known = find_field(key)
    return None if known is None else known.about.get("omit_if")
