"""What a model weighs and will weigh, from the headers of its files; nothing here imports mlx."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from punie.backend.shards import read_header


@dataclass(frozen=True)
class Weights:
    """Size of a model's weights."""

    parameters: int
    """As unpacked weights: a 4-bit tensor counts its weights, not its words."""
    bytes: int
    """On disk."""


def weights(folder: Path) -> Weights:
    """Count a model folder's parameters and bytes without reading its weights.

    Raises:
        PunieError: A safetensors header is damaged, or a file is shorter than its header says.
    """
    quantization = json.loads((folder / "config.json").read_text()).get("quantization") or {}
    default_bits = quantization.get("bits", 4)
    parameters = size = 0
    for path in sorted(folder.glob("model*.safetensors")):
        size += path.stat().st_size
        for name, tensor in read_header(path).tensors.items():
            if name.endswith((".scales", ".biases")):
                continue
            count = 1
            for extent in tensor["shape"]:
                count *= extent
            layer = quantization.get(name.rpartition(".")[0])
            bits = layer.get("bits", default_bits) if isinstance(layer, dict) else default_bits
            parameters += count * 32 // bits if tensor["dtype"] == "U32" else count
    return Weights(parameters, size)


def quantized_bytes(parameters: int, bits: int | None, group_size: int) -> int:
    """Size of a model at ``bits`` per weight, with a 16-bit scale and bias to each group (affine)."""
    return int(parameters * (16 if bits is None else bits + 32 / group_size) / 8)
