"""What a stage is: a name, the part of the config it may read, the stages it needs, and what it does."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from punie.config.check import find_field
from punie.config.schema import Config
from punie.store.artifacts import Artifact
from punie.util.progress import Reporter

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


S = TypeVar("S", bound="DataclassInstance")
"""A slice of the config: a dataclass whose fields are groups of it, parts of groups, or single fields."""
Inputs = Mapping[str, Artifact]
"""The artifacts of the stages that a stage needs, by name."""
READING = ("data/load.py", "data/rows.py", "formats", "stages/chats.py", "stages/inputs.py")
"""Sources that decide what a model reads."""
LOADING = ("model/blas.py", "model/compat.py", "model/folders.py", "model/load.py", "model/shards.py")
"""Sources that decide how a model computes."""
Contents = dict[str, Any]
"""Plain JSON values by name: digests of a stage's inputs, or what its manifest records as info."""


@dataclass(frozen=True)
class Stage(Generic[S]):
    """One stage of the pipeline."""

    name: str
    version: int
    """Raised when the stage produces something else from the same inputs."""
    reads: type[S]
    """Its slice: what it may see of the config, and what its key is made of."""
    needs: Callable[[S], tuple[str, ...]]
    """The stages whose artifacts it is given."""
    run: Callable[[S, Inputs, Path, Reporter], Mapping[str, Any]]
    """Writes its files into the folder; returns what the manifest records as info."""
    sources: Callable[[S], tuple[str, ...]]
    """The folders and files of the package that decide its result; edited ones are part of the key."""
    contents: Callable[[S], Contents] = lambda _: {}
    """Digests of the inputs that are not artifacts: data, suite, base model."""
    acquire: Callable[[S, Reporter], None] | None = None
    """Fetches inputs that ``contents`` found to be missing."""
    decisive: Callable[[S], S] = lambda settings: settings
    """Its slice with the default of each field that changes nothing beside the others."""
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
    disk: Callable[[S, int], int] = lambda *_: 0
    """Bytes that its artifact will take, roughly, for a base model of so many parameters."""
    memory: Literal["training", "evaluation"] | None = None
    """Which estimate of memory it has to fit."""
    transient: Callable[[S], bool] = lambda _: False
    """Whether its artifact goes once a run has what is made from it."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The groups (``lora``) and single fields (``eval.target``) that it declares."""
        declared = ((field.name, _part(self.reads, field.name)) for field in dataclasses.fields(self.reads))
        return tuple(
            each
            for name, part in declared
            for each in ([name] if part is None else [f"{name}.{f.name}" for f in dataclasses.fields(part)])
        )

    def settings(self, config: Config) -> S:
        """Its slice of a config, as the stage runs with it and as its key holds it."""
        values: Contents = {}
        for field in dataclasses.fields(self.reads):
            value, part = getattr(config, field.name), _part(self.reads, field.name)
            if part is not None:
                value = part(**{each.name: getattr(value, each.name) for each in dataclasses.fields(part)})
            values[field.name] = value
        return self.decisive(self.reads(**values))

    def identity(self, config: Config) -> Contents:
        """The declared fields that decide the result, by dotted name, as plain JSON values."""
        found: Contents = {}

        def collect(value: Any, prefix: str = "") -> None:
            for name, inner in vars(value).items():
                known = find_field(key := f"{prefix}{name}")
                about = known.about if known else {}
                if dataclasses.is_dataclass(inner):
                    collect(inner, f"{key}.")
                elif not (about.get("neutral") and not self.labels) and about.get("omit_if", _NEVER) != inner:
                    found[key] = _plain(inner)

        collect(self.settings(config))
        return found


_NEVER = object()


_hints = functools.cache(typing.get_type_hints)


@functools.cache
def _part(slice_: type, name: str) -> type[DataclassInstance] | None:
    """The dataclass that narrows a group; None where the slice has the group, or a single field, itself."""
    hint, whole = _hints(slice_)[name], _hints(Config)[name]
    return hint if dataclasses.is_dataclass(hint) and hint is not whole else None


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        omitted = {field.name: field.metadata.get("omit_if", _NEVER) for field in dataclasses.fields(value)}
        return {name: _plain(inner) for name, inner in vars(value).items() if omitted[name] != inner}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
