"""Where a run's inputs are: the data folder, the suite, the base model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

from punie.config.schema import ModelConfig, StoreConfig
from punie.model import resolve, shards
from punie.model.gguf import file, stored
from punie.model.resolve import ModelJson, NotCached, NotInstalled
from punie.store.artifacts import Store
from punie.store.keys import content_digests
from punie.util.errors import DataError, PunieError
from punie.util.paths import resource

_HUB_BITS = 4.5
"""Bits a parameter of the presets' hub models, which are 4-bit in groups of 64."""
SPLITS = ("train.jsonl", "valid.jsonl")


class Settings(Protocol):
    """What a stage's slice must hold to find the base model."""

    @property
    def model(self) -> ModelConfig:
        """Which it is."""

    @property
    def store(self) -> StoreConfig:
        """Where one is that was read from a GGUF file."""


def resource_or_path(path: str) -> Path:
    """A file or folder: relative to the working folder, else one of punie's own."""
    found = Path(path).expanduser()
    if not found.is_absolute() and not found.exists():
        with contextlib.suppress(FileNotFoundError):
            return resource(path)
    return found


def data_folder(path: str) -> Path:
    """The data folder: relative to the working folder, else one of punie's own.

    Raises:
        DataError: There is none, or it lacks a split.
    """
    folder = resource_or_path(path)
    missing = [name for name in SPLITS if not (folder / name).is_file()]
    if missing:
        raise DataError(
            "The data folder does not exist." if not folder.exists() else "The data folder is incomplete.",
            where=f"data.path={path}",
            found=None if not folder.exists() else "no " + " and no ".join(missing),
            expected=f"a folder with {' and '.join(SPLITS)}",
            next_step="data=jsonl data.path=FOLDER takes yours; data=code_mode is punie's own",
        )
    return folder


def data_digests(path: str) -> dict[str, str]:
    """File name to sha256 of the two splits."""
    folder = data_folder(path)
    return content_digests(folder / name for name in SPLITS)


def suite_path(suite: str) -> Path:
    """The suite's file: one of punie's own by name, else a path.

    Raises:
        DataError: There is none.
    """
    own = resource("data/suites")
    for path in (own / f"{suite}.jsonl", Path(suite).expanduser()):
        if path.is_file():
            return path
    raise DataError(
        "There is no such suite.",
        where=f"eval.suite={suite}",
        expected=", ".join(sorted(path.stem for path in own.glob("*.jsonl"))) + ", or a path to a JSONL file",
    )


def suite_digest(suite: str) -> str:
    """sha256 of the suite's file."""
    return next(iter(content_digests([suite_path(suite)]).values()))


class NotConverted(NotCached):
    """The model is a GGUF file that has yet to be read."""


def model_parameters(settings: Settings) -> int | None:
    """Parameters of the base model; of one still to be downloaded by its size there; None if unknown."""
    model = settings.model
    try:
        return shards.parameters(base_folder(settings)) or None
    except NotConverted:
        return described(settings).parameters
    except NotCached:
        return int((model.size_gb or 0) * 1e9 * 8 / _HUB_BITS) or None
    except PunieError:
        return None


def model_config(settings: Settings) -> ModelJson:
    """The base model's config.json, or before it is on this machine, what is known of it.

    Raises:
        PunieError: See :func:`base_folder`.
    """
    try:
        return resolve.read_config(base_folder(settings))
    except NotConverted:
        return described(settings).config
    except (NotCached, NotInstalled):  # the dimensions in its preset
        return settings.model.dimensions


def base_folder(settings: Settings) -> Path:
    """The base model's folder on this machine.

    Raises:
        PunieError: See ``resolve.locate``.
        NotConverted: It is a GGUF file, which :func:`convert` reads.
    """
    model = settings.model
    if path := gguf_file(model):
        if folder := stored.find(path, dtype=model.dtype, store=Store(Path(settings.store.dir))):
            return folder
        stored.describe(path, dtype=model.dtype)
        raise NotConverted(
            "The GGUF file has not been read yet.",
            where=path,
            next_step="the run reads it once, into the store",
        )
    return resolve.locate(embedded=model.embedded, path=model.path, repo=model.repo, revision=model.revision)


def gguf_file(model: ModelConfig) -> Path | None:
    """The GGUF file that the model is; None if it is none.

    Raises:
        PunieError: The package that should hold it does not.
    """
    if model.package:
        return resolve.packaged(model.package)
    path = Path(model.path).expanduser() if model.path else None
    return path if path and file.is_gguf(path) else None


def described(settings: Settings) -> stored.Described:
    """What the GGUF file that the model is says of it."""
    return stored.describe(_given(settings), dtype=settings.model.dtype)


def convert(settings: Settings) -> Path:
    """Read the GGUF file that the model is into the store; returns the folder.

    Raises:
        PunieError: It is damaged, or of a kind that punie does not read.
    """
    store = Store(Path(settings.store.dir))
    return stored.build(_given(settings), dtype=settings.model.dtype, store=store)


def _given(settings: Settings) -> Path:
    path = gguf_file(settings.model)
    assert path is not None  # noqa: S101 - the model is not converted
    return path
