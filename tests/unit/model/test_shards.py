"""Weight files written piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from punie.model.shards import Tensor, Writer, read_header, split
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
    """All of it, the first two tensors by turns, ten rows at a time."""
    with Writer(folder, TENSORS, limit) as writer:
        for start in range(0, 30, 10):
            for name in ("a.weight", "a.scales"):
                writer.write(name, memoryview(ARRAYS[name][start : start + 10]))
        writer.write("b", memoryview(ARRAYS["b"]))
    return writer


@pytest.mark.parametrize(("limit", "files"), [(10**9, 1), (12_130, 2), (100, 3)])
def test_pieces_end_up_in_their_places(limit: int, files: int, tmp_path: Path) -> None:
    """Another safetensors reader finds every tensor whole, whatever the order of writing and the limit."""
    writer = written(tmp_path, limit)
    found: dict[str, np.ndarray] = {}
    paths = sorted(tmp_path.glob("model*.safetensors"))
    for path in paths:
        found |= load_file(path)
    assert len(paths) == files
    assert found.keys() == ARRAYS.keys()
    assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())
    assert writer.total_bytes == sum(path.stat().st_size for path in paths)
    writer.verify()


def test_a_file_is_no_larger_than_its_limit() -> None:
    """Tensors are distributed in order, each file within the limit unless one tensor alone is larger."""
    files = split(TENSORS, 200)
    assert [[t.name for t in file] for file in files] == [["a.weight"], ["a.scales", "b"]]
    assert sum(t.nbytes for t in files[1]) <= 200


@pytest.mark.parametrize("damage", ["bit", "short", "header"])
def test_verification_finds_what_the_disk_did(damage: str, tmp_path: Path) -> None:
    """A flipped bit, a lost end and another header are each found when the files are read again."""
    writer = written(tmp_path)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[-1] ^= 1
    elif damage == "short":
        content = content[:-4]
    else:
        content = bytearray(bytes(content).replace(b'"F16"', b'"I16"'))
    path.write_bytes(content)
    with pytest.raises(PunieError, match=r"model\.safetensors"):
        writer.verify()


def test_too_many_bytes_are_refused(tmp_path: Path) -> None:
    """A tensor never runs over into the next one's place."""
    with Writer(tmp_path, TENSORS, 10**9) as writer:
        writer.write("b", memoryview(ARRAYS["b"]))
        with pytest.raises(ValueError, match="more bytes"):
            writer.write("b", memoryview(ARRAYS["b"]))


def test_an_unfinished_tensor_is_found(tmp_path: Path) -> None:
    """A file of which a piece was never written does not pass."""
    with Writer(tmp_path, TENSORS, 10**9) as writer:
        for name in ("a.weight", "a.scales"):
            writer.write(name, memoryview(ARRAYS[name]))
    with pytest.raises(PunieError):
        writer.verify()


def test_the_header_tells_where_the_data_starts(tmp_path: Path) -> None:
    """``start`` plus a tensor's offset is where its bytes are, aligned to eight bytes."""
    written(tmp_path)
    header = read_header(tmp_path / "model.safetensors")
    start = header.start + header.tensors["b"]["data_offsets"][0]
    assert (tmp_path / "model.safetensors").read_bytes()[start:] == ARRAYS["b"].tobytes()
    assert header.start % 8 == 0
