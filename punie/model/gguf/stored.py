"""Models converted from GGUF files, as artifacts of the store: by the file's content, once."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.model import stored
from punie.model.folders import ModelJson
from punie.model.gguf import VERSION
from punie.store.artifacts import Store
from punie.store.keys import SCHEMA, content_digests
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
    return stored.find(STAGE, _material(path, dtype), store)


def build(path: Path, *, dtype: str, store: Store) -> Path:
    """Convert a file, unless the store has it, into the store.

    Raises:
        PunieError: See ``convert.convert``; or the store cannot be written.
    """

    def make(out: Path) -> dict[str, Any]:
        from punie.model.gguf.convert import convert

        return convert(path, out, dtype=dtype)

    return stored.build(STAGE, _material(path, dtype), store, make)


def _material(path: Path, dtype: str) -> dict[str, Any]:
    material = {
        "schema": SCHEMA,
        "stage": STAGE,
        "version": VERSION,
        "settings": {"model.dtype": dtype},
        "contents": {"file": content_digests([path])[path.name]},
    }
    return sourced(material, "model/gguf")
