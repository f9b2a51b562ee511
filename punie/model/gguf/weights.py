"""The weights of a tensor of a GGUF, dequantized a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from punie.model.gguf.file import Refused, Tensor, library

PIECE = 1 << 20
"""Weights dequantized at a time; of a longer row, the row."""


@dataclass(frozen=True)
class Weight:
    """A tensor of the model, and where it comes from."""

    name: str
    source: Tensor
    interleaved_heads: int = 0
    """Heads whose rows are interleaved; 0: none are."""
    shift: float = 0.0


def values(path: Path, weight: Weight) -> Iterator[np.ndarray]:
    """A tensor's weights in float32, in pieces of whole rows.

    Raises:
        Refused: A weight is not finite.
    """
    gguf, source = library(), weight.source
    packed, order = stored(path, weight, "r")
    step = max(1, PIECE // source.shape[-1])
    for start in range(0, len(packed), step):
        some = packed[start : start + step] if order is None else packed[order[start : start + step]]
        with np.errstate(all="ignore"):
            found = gguf.dequantize(np.ascontiguousarray(some), source.kind) + np.float32(weight.shift)
        if not np.isfinite(found).all():
            raise Refused(
                "A tensor of the GGUF file has weights that are not finite.",
                where=f"{path}: {source.name}",
                next_step="fetch or copy the file again, or take another quantization of the model",
            )
        yield found


def stored(
    path: Path, weight: Weight, mode: Literal["r", "r+"]
) -> tuple[np.memmap[Any, Any], np.ndarray | None]:
    """The bytes of a tensor in its file, by row, and which row each of the model's is; None if the same."""
    source = weight.source
    rows = source.shape[0] if weight.interleaved_heads else source.rows  # a bias has one number a row
    packed = np.memmap(path, np.uint8, mode, source.start, (rows, source.size // rows))
    if heads := weight.interleaved_heads:
        return packed, np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
    return packed, None


def require_readable(found: Sequence[Weight]) -> None:
    """Refuse types that the `gguf` package does not dequantize, and biases in blocks."""
    gguf = library()
    for weight in found:
        kind = weight.source.kind
        block, size = gguf.GGML_QUANT_SIZES[kind]
        try:
            if block > 1 and len(weight.source.shape) == 1:
                raise NotImplementedError
            gguf.dequantize(np.zeros((1, size), np.uint8), kind)
        except NotImplementedError:
            raise Refused(
                "The GGUF file holds weights of a type that cannot be dequantized.",
                where=weight.source.name,
                found=kind.name,
                expected="F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, or an IQ type",
            ) from None
