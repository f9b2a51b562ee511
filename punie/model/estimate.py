"""Sizes of a model that is on this machine, from the headers of its files; does not import mlx."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from punie.model.resolve import read_config
from punie.model.shards import read_header
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt

_FILES = "model*.safetensors"
_BLOCK = re.compile(r"(?:^|\.)layers\.(?P<number>\d+)\.(?P<path>.+)")


@dataclass(frozen=True)
class Weights:
    """Size of a model's weights."""

    parameters: int
    """Unpacked: a 4-bit tensor counts its weights, not its words."""
    bytes: int
    """On disk."""


def weights(folder: Path) -> Weights:
    """Count a model folder's parameters and bytes without reading its weights.

    Raises:
        PunieError: A weight file is damaged, or the config states no valid bits per weight.
    """
    size = sum(path.stat().st_size for path in folder.glob(_FILES))
    return Weights(sum(math.prod(shape) for _, shape in _tensors(folder)), size)


def adapter_bytes(
    folder: Path, *, fine_tune_type: str, num_layers: int, rank: int, keys: list[str] | None
) -> int:
    """Size of what is trained, float32: two matrices of the rank for each linear layer, or whole layers.

    Raises:
        PunieError: A weight file is damaged.
    """
    blocks: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
    for name, shape in _tensors(folder):
        if found := _BLOCK.search(name):
            blocks.setdefault(int(found["number"]), []).append((found["path"], shape))
    count = 0
    for number in sorted(blocks)[-num_layers if num_layers > 0 else 0 :]:
        for path, shape in blocks[number]:
            if fine_tune_type == "full":
                count += math.prod(shape)
            elif path.endswith(".weight") and len(shape) > 1 and (not keys or path[:-7] in keys):
                *experts, outputs, inputs = shape
                magnitudes = outputs if fine_tune_type == "dora" else 0
                count += math.prod(experts) * (rank * (inputs + outputs) + magnitudes)
    return 4 * count


def quantized_bytes(parameters: int, bits: int | None, group_size: int) -> int:
    """Size of a model at ``bits`` per weight, with a 16-bit scale and bias for each group (affine)."""
    return int(parameters * (16 if bits is None else bits + 32 / group_size) / 8)


def _tensors(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every weight, unpacked; the scales and biases of quantized ones are skipped."""
    quantization = read_config(folder).get("quantization") or {}
    default_bits = _bits(quantization, folder)
    for path in sorted(folder.glob(_FILES)):
        for name, tensor in read_header(path).tensors.items():
            if name.endswith((".scales", ".biases")):
                continue
            *outer, last = tensor["shape"] or [1]
            layer = quantization.get(name.rpartition(".")[0])
            bits = _bits(layer, folder, default_bits) if isinstance(layer, dict) else default_bits
            yield name, (*outer, last * 32 // bits if tensor["dtype"] == "U32" else last)


def _bits(quantization: object, folder: Path, default: int = 4) -> int:
    """Bits per weight."""
    bits = quantization.get("bits", default) if isinstance(quantization, dict) else None
    if type(bits) is not int or not 1 <= bits <= 32:
        raise PunieError(
            "The model's config.json states no valid bits for its quantized weights.",
            where=folder / "config.json",
            found=f"quantization {excerpt(quantization)}",
            expected='{"group_size": 64, "bits": 4}, and the same for layers that differ',
        )
    return bits
