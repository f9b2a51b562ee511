"""Weight files: their headers, and writing them piece by piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from punie.model import shards
from punie.model.shards import Tensor, Writer, read_header
from punie.util.errors import PunieError

ARRAYS: dict[str, Any] = {
    "a.weight": np.arange(3000, dtype=np.uint32).reshape(30, 100),
    "a.scales": np.linspace(0, 1, 60, dtype=np.float16).reshape(30, 2),
    "b": np.arange(7, dtype=np.float32),
}
TENSORS = [
    Tensor("a.weight", "U32", (30, 100)),
    Tensor("a.scales", "F16", (30, 2)),
    Tensor("b", "F32", (7,)),
]


def written(folder: Path, limit: int = 10**9) -> Writer:
    """All tensors in pieces of ten rows, before the writer finishes."""
    writer = Writer(folder, TENSORS, limit)
    writer.create()
    for start in range(0, 30, 10):
        for name in ("a.weight", "a.scales"):
            writer.write(name, memoryview(ARRAYS[name][start : start + 10]))
    writer.write("b", memoryview(ARRAYS["b"]))
    return writer


@pytest.mark.parametrize(("limit", "files"), [(10**9, 1), (12_130, 2), (100, 3)])
def test_pieces_end_up_in_their_places(limit: int, files: int, tmp_path: Path) -> None:
    """Another safetensors reader finds every tensor whole, whatever the order of writing and the limit."""
    writer = written(tmp_path, limit)
    writer.finish(3067)
    paths = sorted(tmp_path.glob("model*.safetensors"))
    found: dict[str, np.ndarray] = {}
    for path in paths:
        found |= load_file(path)
        assert read_header(path).start % 8 == 0
    assert len(paths) == files
    assert found.keys() == ARRAYS.keys()
    assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())
    assert writer.total_bytes == sum(path.stat().st_size for path in paths)


@pytest.mark.parametrize("damage", ["bit", "short", "header"])
def test_what_the_disk_did_is_found(damage: str, tmp_path: Path) -> None:
    """A flipped bit, a lost end and another header are each found when the files are read again."""
    writer, path = written(tmp_path), tmp_path / "model.safetensors"
    content = path.read_bytes()
    damaged = {
        "bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "short": content[:-4],
        "header": content.replace(b'"F16"', b'"I16"'),
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(PunieError, match=r"not what was written into it[\s\S]*model\.safetensors"):
        writer.finish(3067)


def test_too_many_and_too_few_bytes_are_refused(tmp_path: Path) -> None:
    """A tensor is never written past its end; the index is written only when every tensor is complete."""
    writer = Writer(tmp_path, TENSORS, 10**9)
    writer.create()
    writer.write("b", memoryview(ARRAYS["b"]))
    with pytest.raises(ValueError, match="b has more bytes"):
        writer.write("b", memoryview(ARRAYS["b"]))
    with pytest.raises(ValueError, match=r"a\.weight, a\.scales has fewer bytes"):
        writer.finish(3067)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    quantization = {"bits": 4, "group_size": 64, "b": {"bits": 8}}
    (tmp_path / "config.json").write_text(json.dumps({"quantization": quantization}))
    tensors = {
        "a.weight": np.zeros((10, 64 * 4 // 32), np.uint32),
        "a.scales": np.zeros((10, 1), np.float16),
        "b.weight": np.zeros((10, 64 * 8 // 32), np.uint32),
        "norm.weight": np.zeros(7, np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def test_packed_weights_count_as_weights(folder: Path) -> None:
    """Four-bit words count eight weights each, eight-bit ones four, scales none, plain tensors their size."""
    assert shards.parameters(folder) == 640 + 640 + 7


@pytest.mark.parametrize("damage", ["short", "header", "empty", "huge"])
def test_a_damaged_file_is_refused(folder: Path, damage: str) -> None:
    """A truncated file, or a header that is not one, is named and never read past its end."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    broken = {
        "short": content[:-1],
        "header": content[:8] + b"x" * (len(content) - 8),
        "empty": b"",
        "huge": (2**63).to_bytes(8, "little") + content[8:],
    }
    path.write_bytes(broken[damage])
    with pytest.raises(PunieError, match=r"truncated or damaged[\s\S]*model.safetensors"):
        shards.parameters(folder)
