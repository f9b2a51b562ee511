"""Weight files written piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from punie.model.shards import Tensor, Writer, read_header, split

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


@pytest.mark.parametrize(("limit", "files"), [(10**9, 1), (12_130, 2), (100, 3)])
def test_pieces_end_up_in_their_places(limit: int, files: int, tmp_path: Path) -> None:
    """Another safetensors reader finds every tensor whole, whatever the order of writing and the limit."""
    writer = Writer(tmp_path, TENSORS, limit)
    writer.create()
    for start in range(0, 30, 10):
        for name in ("a.weight", "a.scales"):
            writer.write(name, memoryview(ARRAYS[name][start : start + 10]))
    writer.write("b", memoryview(ARRAYS["b"]))
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


def test_a_file_is_no_larger_than_its_limit() -> None:
    """Tensors are distributed in order, each file within the limit unless one tensor alone is larger."""
    files = split(TENSORS, 200)
    assert [[t.name for t in file] for file in files] == [["a.weight"], ["a.scales", "b"]]
    assert sum(t.nbytes for t in files[1]) <= 200


def test_too_many_and_too_few_bytes_are_refused(tmp_path: Path) -> None:
    """A tensor is never written past its end; the index is written only when every tensor is complete."""
    writer = Writer(tmp_path, TENSORS, 10**9)
    writer.create()
    writer.write("b", memoryview(ARRAYS["b"]))
    with pytest.raises(ValueError, match="b has more bytes"):
        writer.write("b", memoryview(ARRAYS["b"]))
    with pytest.raises(ValueError, match=r"a\.weight, a\.scales has fewer bytes"):
        writer.finish(3067)
