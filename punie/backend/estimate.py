"""What a model weighs and will weigh, from the headers of its files; nothing here imports mlx."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from punie.errors import PunieError

_HEADER_LIMIT = 100_000_000
"""The safetensors format's own bound on a header; bytes."""


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
        header = _header(path)
        size += path.stat().st_size
        for name, tensor in header.items():
            if name == "__metadata__" or name.endswith((".scales", ".biases")):
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


def _header(path: Path) -> dict[str, dict]:
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, _HEADER_LIMIT):
                raise ValueError("the header is longer than the file")
            header = json.loads(stream.read(length))
        end = max((t["data_offsets"][1] for n, t in header.items() if n != "__metadata__"), default=0)
        if 8 + length + end != size:
            raise ValueError(f"{size} bytes instead of {8 + length + end}")
    except (struct.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise PunieError(
            "A weight file is truncated or damaged.",
            where=path,
            found=error,
            next_step="fetch or copy the model again",
        ) from None
    return header
