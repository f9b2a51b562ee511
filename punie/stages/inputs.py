"""Where a run's inputs are: the data folder, the suite, the base model."""

from __future__ import annotations

import contextlib
from pathlib import Path

from punie.config.schema import ModelConfig
from punie.model import resolve, shards
from punie.model.resolve import NotCached
from punie.store.keys import content_digests
from punie.util.errors import DataError, PunieError
from punie.util.paths import resource

_HUB_BITS = 4.5
"""Bits a parameter of the presets' hub models, which are 4-bit in groups of 64."""
SPLITS = ("train.jsonl", "valid.jsonl")


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
        there = sorted(each.name for each in folder.iterdir() if each.is_file()) if folder.is_dir() else []
        others = [name for name in there if name not in SPLITS]
        beside = f"; beside them {', '.join(others[:5])}" if others else ""
        next_step = "data=jsonl data.path=FOLDER takes yours; data=code_mode is punie's own"
        if folder.is_file():
            next_step = f"put it into a folder, as {SPLITS[0]}, with some examples as {SPLITS[1]}"
        elif others or there:
            next_step = f"name the file {missing[0]}, or move some examples into it; one JSON object a line"
        raise DataError(
            "The data folder does not exist." if not folder.exists() else "The data folder is incomplete.",
            where=f"data.path={path}",
            found=None if not folder.exists() else "no " + " and no ".join(missing) + beside,
            expected=f"a folder with {' and '.join(SPLITS)}",
            next_step=next_step,
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


def model_parameters(model: ModelConfig) -> int | None:
    """Parameters of the base model; of one still to be downloaded by its size there; None if unknown."""
    try:
        return shards.parameters(base_folder(model)) or None
    except NotCached:
        return int((model.size_gb or 0) * 1e9 * 8 / _HUB_BITS) or None
    except PunieError:
        return None


def base_folder(model: ModelConfig) -> Path:
    """The base model's folder on this machine.

    Raises:
        PunieError: See ``resolve.locate``.
    """
    return resolve.locate(embedded=model.embedded, path=model.path, repo=model.repo, revision=model.revision)
