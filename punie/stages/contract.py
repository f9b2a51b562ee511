"""What a stage is: a name, what it reads, what it needs, and what it does.

A stage sees only the config it declares (``reads``), so nothing outside its key can influence it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from punie.config.fields import find_field
from punie.config.schema import Config
from punie.store.artifacts import Artifact

if TYPE_CHECKING:
    from punie.util.progress import Reporter

Settings = SimpleNamespace
"""The declared part of the config: ``settings.lora.rank``."""


def _no_contents(_: Settings) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline."""

    name: str
    version: int
    """Raised when the stage produces something else from the same inputs."""
    reads: tuple[str, ...]
    """Groups (``lora``) and single fields (``eval.target``) of the config it may see."""
    needs: Callable[[Settings], tuple[str, ...]]
    """The stages whose artifacts it is given."""
    run: Callable[[Settings, Mapping[str, Artifact], Path, Reporter], Mapping[str, Any]]
    """Writes its files into the folder; returns what the manifest records as info."""
    contents: Callable[[Settings], dict[str, Any]] = _no_contents
    """Digests of the inputs that are not artifacts: data, suite, base model."""
    acquire: Callable[[Settings, Reporter], None] | None = None
    """Fetches inputs that ``contents`` found to be missing."""
    libraries: tuple[str, ...] = ()
    """Packages whose version is part of the key."""
    computes: bool = False
    """It uses the accelerator: its key holds the device, and it can have a process of its own."""
    resumable: bool = False
    """A killed run's folder is kept, and given to the next one of the same key."""
    unfinished: Callable[[Artifact], str | None] = lambda _: None
    """Why an artifact should be built again although it is whole; None where it should not."""
    shows: tuple[str, ...] = ()
    """Files of its artifact that a run's directory gets, where they are in it. A run is for the stages that
    show something; all others are there because one of these needs them."""
    labels: bool = False
    """Neutral fields count too, because it shows them to people."""

    def settings(self, config: Config) -> Settings:
        """The declared part of a config."""
        settings = SimpleNamespace()
        for dotted in self.reads:
            group, _, field = dotted.partition(".")
            value = getattr(config, group)
            if field:
                if not hasattr(settings, group):
                    setattr(settings, group, SimpleNamespace())
                setattr(getattr(settings, group), field, getattr(value, field))
            else:
                setattr(settings, group, value)
        return settings

    def identity(self, config: Config) -> dict[str, Any]:
        """The declared fields that decide the result, by dotted name, as plain JSON values."""
        found: dict[str, Any] = {}
        for dotted in self.reads:
            value: Any = config
            for part in dotted.split("."):
                value = getattr(value, part)
            self._collect(dotted, value, found)
        return found

    def _collect(self, key: str, value: Any, found: dict[str, Any]) -> None:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for field in dataclasses.fields(value):
                self._collect(f"{key}.{field.name}", getattr(value, field.name), found)
            return
        known = find_field(key)
        about = known.about if known else {}
        if about.get("neutral") and not self.labels:
            return
        if "omit_if" in about and value == about["omit_if"]:
            return
        found[key] = _plain(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {
            field.name: _plain(inner)
            for field, inner in values
            if "omit_if" not in field.metadata or inner != field.metadata["omit_if"]
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
