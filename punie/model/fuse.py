"""Fuses an adapter into a base model and quantizes it, in one pass, to a model folder that mlx-lm loads.

``layout`` plans the result, so ``shards`` can write every file's header at once. Then each layer is read,
dequantized, given its delta, quantized and written, in pieces, and freed. docs/quantize.md has the picture.
"""

from __future__ import annotations

import copy
import itertools
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.lora import LoRASwitchLinear
from mlx_lm.utils import dequantize_model, save_config

from punie.model import blas, folders, peft
from punie.model.adapters import Adapter
from punie.model.layout import Layout, attach, lay_out, plan, types
from punie.model.load import load_lazily
from punie.model.shards import Writer, parameters
from punie.util.errors import PunieError
from punie.util.files import disk_shortage

_SHARD_MB = 5000
PIECE = 1 << 21
"""Weights computed at a time, where a layer can be cut without changing a bit of it."""
_PLAIN = 12
"""Bytes per weight while it is dequantized and quantized; measured on the CPU, where MLX unpacks through
32-bit words. A GPU takes less."""
_ADAPTED = 18
"""The same with a delta, which is float32, then cast, then part of a sum."""
_CUTTABLE = (
    nn.Linear, nn.Embedding, SwitchLinear, nn.QuantizedLinear, nn.QuantizedEmbedding, QuantizedSwitchLinear,
    LoRASwitchLinear,
)  # fmt: skip
"""Kinds whose rows (or experts) do not depend on each other. The delta of another adapter is one matrix
product, whose last bits could depend on its number of rows."""
_WORDS = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}

_made = threading.local()

Piece = list[tuple[str, mx.array, mx.array | None]]
"""Names and arrays that are computed together, those of a layer or of some of its rows; and whether all
numbers are finite, of arrays that could hold others."""


def fuse(
    base: Path,
    adapter: Path,
    out: Path,
    *,
    base_key: str,
    bits: int | None,
    group_size: int,
    recipe: str | None = None,
    shard_mb: int = _SHARD_MB,
) -> dict[str, Any]:
    """Add the adapter to the base's weights, quantize the sum, and write it piece by piece.

    ``base_key`` is the key of the base's artifact, which the adapter must name as its own. ``bits`` None
    keeps the base's floating point; ``recipe`` is one of mlx-lm's mixed recipes. A weight file has at most
    ``shard_mb`` megabytes (10^6 bytes).

    Returns:
        ``bits_per_weight`` (None if not quantized), ``parameters``, ``size_mb`` of the weights; and under
        ``budget`` the predicted and the measured ``disk_mb`` and ``memory_mb`` (of MLX's arrays).

    Raises:
        PunieError: The adapter, the base, the settings or the disk do not fit; found before anything is
            written.
    """
    layout = plan(base, adapter, base_key=base_key, bits=bits, group_size=group_size, recipe=recipe)
    written = _write(layout, base, out, shard_mb)
    return {"bits_per_weight": None if bits is None else round(layout.bits_per_weight, 3), **written}


def merge(base: Path, adapter: Adapter, out: Path) -> dict[str, Any]:
    """Add an adapter to a model's weights; layers that it does not change are copied.

    Returns:
        As :func:`fuse`, without ``bits_per_weight``; ``kind`` of the adapter, and the ``layers`` it changes.

    Raises:
        PunieError: The adapter, the base or the disk do not fit; found before anything is written.
    """
    parameters(base)  # checks that every file is as long as its header states
    model, config = load_lazily(base)
    before = types(model)
    if adapter.kind == "PEFT":
        peft.attach(model, base, adapter)
    else:
        model = attach(model, base, adapter.folder, adapter.config)
    layout = lay_out(model, config, bits=None, group_size=0, recipe=None, keep=before)
    changed = sum(hasattr(module, "fuse") for module in layout.sources.values())
    return {"kind": adapter.kind, "layers": changed, **_write(layout, base, out, _SHARD_MB)}


def _write(layout: Layout, base: Path, out: Path, shard_mb: int) -> dict[str, Any]:
    """Compute and write what was planned, and copy what of the base is not weights."""
    blas.set_threads(0)  # the deltas are thin, and must not depend on what ran before in this process
    needed = max(map(working_bytes, layout.sources.values()), default=0)
    writer = Writer(out, layout.tensors, shard_mb * 1_000_000)
    if short := disk_shortage(out, writer.total_bytes, "the fused model"):
        raise short
    writer.create()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    for name, array in computed(layout):
        writer.write(name, memoryview(cast(Any, array)))
    measured = mx.get_peak_memory() - before
    mx.clear_cache()
    writer.finish(layout.parameters)
    save_config(layout.config, out / "config.json")
    for name in folders.companions(base):
        if name != "config.json":
            (out / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(base / name, out / name)
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    return {
        "parameters": layout.parameters,
        "size_mb": _mb(size),
        "budget": {
            "predicted": {"disk_mb": _mb(writer.total_bytes), "memory_mb": _mb(needed)},
            "measured": {"disk_mb": _mb(size), "memory_mb": _mb(measured)},
        },
    }


def computed(layout: Layout) -> Iterator[tuple[str, mx.array]]:
    """The tensors of a layout in order, each in pieces of whole rows, viewed as words of the elements' size.

    Raises:
        PunieError: A weight is not finite.
    """
    dtypes = {tensor.name: tensor.dtype for tensor in layout.tensors}
    for piece in _ahead(_pieces(layout)):
        for name, array, finite in piece:
            if finite is not None and not finite.item():
                raise PunieError(
                    "The fused weights are not finite.",
                    where=name,
                    found=f"an infinity or a NaN in {dtypes[name]}",
                    next_step="a smaller lora.scale or lora.learning_rate, or a base in bfloat16: float16 "
                    "ends at 65,504",
                )
            yield name, array


def working_bytes(module: nn.Module) -> int:
    """Memory that computing a layer takes: the layer is read whole and computed in pieces."""
    stored = sum(a.nbytes for _, a in cast(list[tuple[str, mx.array]], tree_flatten(module.parameters())))
    rows, weights = _extent(module)
    piece = max(PIECE, weights // rows) if isinstance(module, _CUTTABLE) else weights
    at_once = min(weights, 2 * piece) if piece < weights else max(weights, min(2 * weights, 3 * PIECE))
    return stored + at_once * (_ADAPTED if hasattr(module, "fuse") else _PLAIN) + PIECE


def _pieces(layout: Layout) -> Iterator[Piece]:
    """The arrays to write, in order, none of them computed yet; each layer is freed after its last piece."""
    streams = itertools.cycle(_streams())
    for path in list(layout.sources):
        module = layout.sources.pop(path)
        mx.eval(module.parameters())  # reads the packed weights of this layer, and nothing else
        for part in _parts(module):
            with mx.stream(next(streams)):
                piece = _computed(path, part, layout)
            yield piece
        del module, part, piece


def _computed(path: str, module: nn.Module, layout: Layout) -> Piece:
    """A layer as it will be written: fused, cast, quantized, viewed as words of the elements' size."""
    if hasattr(module, "fuse"):
        layer = module.fuse(dequantize=True)
    elif layout.keeps:
        layer = copy.copy(module)
    else:
        holder = nn.Module()
        holder.layer = copy.copy(module)
        layer = dequantize_model(holder).layer
    layer.update({name: layout.cast(_join(path, name), array) for name, array in layer.parameters().items()})
    if (target := layout.targets.get(path)) is not None:
        layer = layer.to_quantized(**target)
    return [
        (_join(path, name), mx.contiguous(array).view(_WORDS[array.dtype.size]), _finite(array))
        for name, array in layer.parameters().items()
    ]


def _finite(array: mx.array) -> mx.array | None:
    """Whether all numbers of an array are finite, without an array of its size; None for whole numbers."""
    if not mx.issubdtype(array.dtype, mx.floating) or not array.size:
        return None
    return mx.isfinite(array.max()) & mx.isfinite(array.min())  # either is NaN if any number is


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """The layer, cut along its first axis into pieces of about ``PIECE`` weights if it can be cut."""
    rows, weights = _extent(module)
    step = max(1, rows * PIECE // weights) if isinstance(module, _CUTTABLE) else rows

    def cut(module: nn.Module, start: int) -> nn.Module:
        """Some rows of a layer (experts of a switch layer), those of its adapter included."""
        part = copy.copy(module)
        for name, value in module.items():
            if isinstance(value, nn.Module):
                part[name] = cut(value, start)
            elif isinstance(value, mx.array):
                part[name] = value[start : start + step]
        return part

    yield from [module] if step >= rows else (cut(module, start) for start in range(0, rows, step))


def _ahead(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The same pieces, of which the next is computed while one is written; at most ``PIECE`` bytes wait."""
    waiting: list[Piece] = []
    for piece in pieces:
        mx.async_eval([array for _, *arrays in piece for array in arrays if array is not None])
        waiting.append(piece)
        while sum(array.nbytes for one in waiting for _, array, _ in one) > PIECE:
            yield waiting.pop(0)
    yield from waiting


def _streams() -> list[Any]:
    """This thread's streams: two on the CPU, so that two pieces are computed at once."""
    if not hasattr(_made, "streams"):
        device = mx.default_device()
        _made.streams = [mx.new_stream(device) for _ in range(2 if device == mx.cpu else 1)]
    return _made.streams


def _extent(module: nn.Module) -> tuple[int, int]:
    """Number of rows (or experts) of a layer's weight, and of its weights, unpacked."""
    inner = getattr(module, "linear", None) or getattr(module, "embedding", None) or module
    weight = inner.get("weight")
    if weight is None:
        return 1, 1
    return weight.shape[0], weight.size * 32 // inner.bits if hasattr(inner, "bits") else weight.size


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _mb(size: int) -> float:
    return round(size / 1e6, 3)
