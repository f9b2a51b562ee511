"""Models converted from GGUF files, as artifacts of the store: by the file's content, once."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.model.folders import ModelJson
from punie.model.gguf import VERSION
from punie.store.artifacts import Artifact, Store
from punie.store.keys import SCHEMA, artifact_key, content_digests
from punie.store.sources import sourced

STAGE = "gguf"


@dataclass(frozen=True)
class Described:
    """What the header of a file says of its model."""

    config: ModelJson
    """The config.json that its folder will have."""
    parameters: int


def describe(path: Path, *, dtype: str) -> Described:
    """Read a file's header, and check that its model can be read.

    Raises:
        PunieError: See ``convert.convert``.
    """
    stat = path.stat()
    return _described(path, dtype, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _described(path: Path, dtype: str, _size: int, _time: int) -> Described:
    from punie.model.gguf import architecture, file, tokenizer

    read = file.read(path)
    config = architecture.config(read, dtype=dtype)
    found = architecture.weights(read, config)
    tokenizer.require_known(read.metadata)
    return Described(config, sum(math.prod(each.source.shape) for each in found))


def find(path: Path, *, dtype: str, store: Store) -> Path | None:
    """The folder of the converted model; None if the store has none, or a damaged one."""
    artifact = store.find(STAGE, artifact_key(_material(path, dtype)))
    return artifact.path if artifact is not None and _is_whole(artifact) else None


def build(path: Path, *, dtype: str, store: Store) -> Path:
    """Convert a file, unless the store has it, into the store.

    Raises:
        PunieError: See ``convert.convert``; or the store cannot be written.
    """

    def convert(out: Path) -> dict[str, Any]:
        from punie.model.gguf.convert import convert

        return convert(path, out, dtype=dtype)

    material = _material(path, dtype)
    if (found := store.find(STAGE, artifact_key(material))) is not None and not _is_whole(found):
        store.set_aside(found.path)
    artifact, _ = store.get_or_build(STAGE, material, convert)
    return artifact.path


def _is_whole(artifact: Artifact) -> bool:
    """Whether its files are as published, by digests that are remembered for large files."""
    return content_digests(map(artifact.path.joinpath, artifact.digests)) == artifact.digests


def _material(path: Path, dtype: str) -> dict[str, Any]:
    material = {
        "schema": SCHEMA,
        "stage": STAGE,
        "version": VERSION,
        "settings": {"model.dtype": dtype},
        "contents": {"file": content_digests([path])[path.name]},
    }
    return sourced(material, "model/gguf")
