"""Surfaces: model folders: headers of weight files, config.json, shard index, tokenizer."""

from __future__ import annotations

import functools
import json
import random
import shutil
import struct
from pathlib import Path
from typing import Any

from punie.model import load
from punie.model.resolve import locate
from punie.model.shards import parameters, read_header
from punie.util.paths import resource
from tests.malformed.mutation import damaged, nearly
from tests.malformed.surface import Surface

FILE = "model.safetensors"
LOADED = ("config.json", "tokenizer.json", "tokenizer_config.json")
INDEX = "model.safetensors.index.json"
HEADER: dict[str, Any] = {
    "__metadata__": {"format": "mlx"},
    "model.embed.weight": {"dtype": "U32", "shape": [4, 2], "data_offsets": [0, 32]},
    "model.embed.scales": {"dtype": "BF16", "shape": [4, 1], "data_offsets": [32, 40]},
    "model.norm.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [40, 48]},
}
CONFIG: dict[str, Any] = {
    "model_type": "qwen3", "hidden_size": 4, "num_hidden_layers": 1, "vocab_size": 4,
    "quantization": {"group_size": 64, "bits": 4, "model.embed": {"group_size": 32, "bits": 8}},
}  # fmt: skip
SHARDS: dict[str, Any] = {
    "metadata": {"total_size": 48},
    "weight_map": {"model.embed.weight": FILE, "model.embed.scales": FILE, "model.norm.weight": FILE},
}


@functools.cache
def _real() -> bytes:
    """The first bytes of the tiny model's weights."""
    return (resource("data/models/tiny") / FILE).read_bytes()[:20_000]


def weight_file(rng: random.Random) -> bytes:
    """A safetensors file: its header nearly right, or the file damaged."""
    if rng.random() < 0.1:
        return damaged(rng, _real())
    header = (nearly(rng, HEADER) if rng.random() < 0.8 else json.dumps(HEADER)).encode("utf-8", "replace")
    length = len(header)
    if rng.random() < 0.1:
        length = rng.choice((0, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))
    content = struct.pack("<Q", length) + header + bytes(48)
    return damaged(rng, content) if rng.random() < 0.3 else content


def model_folder(rng: random.Random) -> dict[str, bytes]:
    """The files of a model folder, one or two of them wrong."""
    header = json.dumps(HEADER).encode()
    files = {
        FILE: struct.pack("<Q", len(header)) + header + bytes(48),
        "config.json": json.dumps(CONFIG).encode(),
        INDEX: json.dumps(SHARDS).encode(),
    }
    for name in rng.sample(list(files), rng.randint(1, 2)):
        if name == FILE:
            files[name] = weight_file(rng)
        else:
            right = CONFIG if name == "config.json" else SHARDS
            files[name] = nearly(rng, right, 3).encode("utf-8", "replace")
            if rng.random() < 0.2:
                files[name] = damaged(rng, files[name])
        if rng.random() < 0.03:
            del files[name]
    return files


def write(files: dict[str, bytes], folder: Path) -> None:
    """Make a folder hold these files and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _header(content: bytes, folder: Path) -> None:
    path = folder / FILE
    path.write_bytes(content)
    header = read_header(path)
    for name, entry in header.tensors.items():
        start, end = entry["data_offsets"]
        inside = 0 <= start <= end <= len(content) - header.start
        numbers = all(type(each) is int for each in entry["shape"])
        if not (inside and isinstance(entry["dtype"], str) and numbers):
            raise AssertionError(f"the entry of {name!r} is accepted: {entry}")


def _folder(files: dict[str, bytes], folder: Path) -> None:
    place = folder / "model"
    write(files, place)
    counted = parameters(locate(embedded=None, path=str(place), repo=None, revision="main"))
    if counted < 0:
        raise AssertionError(f"an impossible size: {counted}")


@functools.cache
def whole_model() -> dict[str, Any]:
    """The tiny model's files of JSON."""
    folder = resource("data/models/tiny")
    return {name: json.loads((folder / name).read_text()) for name in LOADED}


def loaded_model(rng: random.Random) -> dict[str, bytes]:
    """What a tokenizer and a model are made from, one of the files wrong."""
    wrong = rng.choice(LOADED)
    right = json.dumps(whole_model()[wrong]).encode()
    changed = nearly(rng, whole_model()[wrong], 3).encode("utf-8", "replace")
    return {wrong: damaged(rng, right) if rng.random() < 0.3 else changed}


def _load(files: dict[str, bytes], folder: Path) -> None:
    """Load tokenizer and model, without the weights."""
    place = folder / "model"
    right = {name: json.dumps(value).encode() for name, value in whole_model().items()}
    write({**right, FILE: (resource("data/models/tiny") / FILE).read_bytes()} | files, place)
    (place / "chat_template.jinja").write_text("{{ messages[0].content }}")
    load.tokenizer(locate(embedded=None, path=str(place), repo=None, revision="main"))
    load.load_lazily(place)


SURFACES = (
    Surface("weight files", weight_file, _header, 5),
    Surface("model folders", model_folder, _folder, 3),
    Surface("loaded models", loaded_model, _load, 1),
)
