"""Sizes from the headers of weight files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from punie.model import estimate
from punie.util.errors import PunieError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    quantization = {"bits": 4, "group_size": 64, "b": {"bits": 8}}
    (tmp_path / "config.json").write_text(json.dumps({"quantization": quantization}))
    tensors = {
        "a.weight": np.zeros((10, 64 * 4 // 32), np.uint32),
        "a.scales": np.zeros((10, 1), np.float16),
        "a.biases": np.zeros((10, 1), np.float16),
        "b.weight": np.zeros((10, 64 * 8 // 32), np.uint32),
        "norm.weight": np.zeros(7, np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def test_packed_weights_count_as_weights(folder: Path) -> None:
    """Four-bit words count eight weights each, eight-bit ones four, scales none, plain tensors their size."""
    found = estimate.weights(folder)
    assert found.parameters == 640 + 640 + 7
    assert found.bytes == (folder / "model.safetensors").stat().st_size


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
        estimate.weights(folder)
