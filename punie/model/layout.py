"""Plans the fused and quantized model as shapes, before a weight is read or written.

MLX's arrays are lazy, so mlx-lm's own functions fuse, dequantize and quantize the whole model in memory that
does not depend on its size. They decide everything but the values: which layers are quantized, with how many
bits, under which names, in which types.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path, tree_unflatten
from mlx_lm.convert import MODEL_CONVERSION_DTYPES, mixed_quant_predicate_builder
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import compute_bits_per_weight, dequantize_model, get_total_parameters, quantize_model

from punie.model.folders import ModelJson
from punie.model.load import load_lazily
from punie.model.shards import Tensor, parameters, read_header
from punie.util.errors import PunieError

Types = Mapping[str, mx.Dtype]
Cast = Callable[[str, mx.array], mx.array]
"""Gives a named tensor the type that it is written in."""

_GROUPS = (32, 64, 128)
"""Group sizes that MLX has."""
_QUANTIZATION = ("quantization", "quantization_config")
_ADAPTER_LEAVES = ("lora_a", "lora_b", "m")
_DTYPES = {
    mx.bool_: "BOOL", mx.uint8: "U8", mx.int8: "I8", mx.uint16: "U16", mx.int16: "I16", mx.uint32: "U32",
    mx.int32: "I32", mx.uint64: "U64", mx.int64: "I64", mx.float16: "F16", mx.bfloat16: "BF16",
    mx.float32: "F32",
}  # fmt: skip


@dataclass
class Layout:
    """The model to write, and the layers that it is computed from."""

    tensors: list[Tensor]
    config: ModelJson
    """config.json."""
    bits_per_weight: float
    """Mean over all weights, scales and biases included."""
    parameters: int
    sources: dict[str, nn.Module]
    """The base's layers by path, in the order of the tensors; none is read yet."""
    targets: dict[str, dict[str, Any]]
    """Bits, group size and mode of the layers that will be quantized."""
    cast: Cast
    keeps: bool = False
    """Whether layers without an adapter are written as they are."""


def plan(
    base: Path, adapter: Path, *, base_key: str, bits: int | None, group_size: int, recipe: str | None = None
) -> Layout:
    """Plan the fused model of two folders from their headers; see ``fuse.fuse`` for the arguments.

    Raises:
        PunieError: The adapter, the base or the settings do not fit.
    """
    model, config = adapted(base, adapter, base_key=base_key)
    return lay_out(model, config, bits=bits, group_size=group_size, recipe=recipe)


def adapted(base: Path, adapter: Path, *, base_key: str) -> tuple[nn.Module, ModelJson]:
    """The base with its adapter attached, of which no weight is read yet, and its config.

    Raises:
        PunieError: The adapter and the base do not fit.
    """
    parameters(base)  # checks that every file is as long as its header states
    about = json.loads((adapter / "adapter_config.json").read_text())
    if about.get("base_key") != base_key:
        raise PunieError(
            "The adapter was trained on another base model.",
            where=adapter,
            found=f"base_key {about.get('base_key') or 'missing'}",
            expected=f"base_key {base_key}",
            next_step="fuse it into the model it was trained on, or train again on this one",
        )
    model, config = load_lazily(base)
    return attach(model, base, adapter, about), config


def attach(model: nn.Module, base: Path, adapter: Path, about: Mapping[str, Any]) -> nn.Module:
    """The lazy model with an adapter in mlx-lm's format, of which every tensor has its place.

    ``about`` is the adapter's config.

    Raises:
        PunieError: The adapter's files do not fit each other or the model.
    """
    given = read_header(adapter / "adapters.safetensors").tensors
    try:
        model = load_adapters(model, str(adapter))
        names = [name for name, _ in cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))]
        if missing := [n for n in names if n.rpartition(".")[2] in _ADAPTER_LEAVES and n not in given]:
            raise ValueError(f"{len(missing)} tensors are missing, such as {missing[0]}")
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        lines = str(error).splitlines()
        recipe = about.get("lora_parameters")
        rank = recipe.get("rank") if isinstance(recipe, dict) else None
        raise PunieError(
            "The adapter's weights do not fit its config and the model.",
            where=adapter,
            found="; ".join(line.strip() for line in lines[1:4] or lines),
            expected=f"rank {rank} in the last {about.get('num_layers')} layers of {base}",
            next_step="train again; the files in the adapter's folder belong to different runs",
        ) from error
    return model


def lay_out(
    model: nn.Module,
    config: ModelJson,
    *,
    bits: int | None,
    group_size: int,
    recipe: str | None,
    keep: Types | None = None,
) -> Layout:
    """Plan the fused model of a lazy model, whether its weights are on a disk or do not exist.

    ``keep`` are the types of the base's tensors: layers without an adapter stay as they are. Without it all
    are in floating point before they are quantized.

    Raises:
        PunieError: The group size does not divide the layers' inputs.
    """
    sources = dict(model.named_modules())
    fused = [(path, m.fuse(dequantize=True)) for path, m in sources.items() if hasattr(m, "fuse")]
    model.update_modules(tree_unflatten(fused))
    if keep is not None:
        config, cast_to = _without(config, [path for path, _ in fused]), _cast_as(keep)
    else:
        model = dequantize_model(model)
        config = {k: v for k, v in config.items() if k not in _QUANTIZATION}
        cast_to = _cast_of(model, config)
    model.update(tree_map_with_path(cast_to, model.parameters()))
    if bits is not None:
        chosen: Any = mixed_quant_predicate_builder(recipe, model, group_size) if recipe else None
        _require_divisible(model, group_size, chosen or getattr(model, "quant_predicate", None))
        with contextlib.redirect_stdout(io.StringIO()):  # it prints bits_per_weight
            model, config = quantize_model(model, config, group_size, bits, quant_predicate=chosen)
    flat = cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))
    owners = dict.fromkeys(name.rpartition(".")[0] for name, _ in flat)
    return Layout(
        tensors=[Tensor(name, _DTYPES[array.dtype], array.shape) for name, array in flat],
        config=config,
        bits_per_weight=compute_bits_per_weight(model),
        parameters=get_total_parameters(model),
        sources={path: _alone(sources[path]) for path in owners},
        targets={
            path: {"group_size": module.group_size, "bits": module.bits, "mode": module.mode}
            for path, module in model.named_modules()
            if hasattr(module, "bits") and keep is None
        },
        cast=cast_to,
        keeps=keep is not None,
    )


def _without(config: ModelJson, paths: Sequence[str]) -> ModelJson:
    """A config that gives some layers no bits of their own any more; mlx-lm goes by their tensors then."""
    return config | {
        name: {key: value for key, value in config[name].items() if key not in paths}
        for name in _QUANTIZATION
        if isinstance(config.get(name), dict)
    }


def types(model: nn.Module) -> Types:
    """Types of the floating-point tensors of a lazy model; for a quantized weight, that of its scales."""
    flat = cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))
    found = {name: array.dtype for name, array in flat if mx.issubdtype(array.dtype, mx.floating)}
    scales = {name: dtype for name, dtype in found.items() if name.endswith(".scales")}
    return found | {name.removesuffix("scales") + "weight": dtype for name, dtype in scales.items()}


def _cast_as(types: Types) -> Cast:
    """The cast to the types that a model had before its adapter, whose sums can be float32."""

    def cast_to(name: str, array: mx.array) -> mx.array:
        floating = mx.issubdtype(array.dtype, mx.floating)
        return array.astype(types.get(name, mx.bfloat16)) if floating else array

    return cast_to


def _cast_of(model: nn.Module, config: ModelJson) -> Cast:
    """The cast of ``mlx_lm convert``: floating-point tensors take the type that the config names, if any."""
    named = config.get("torch_dtype") or (config.get("text_config") or {}).get("dtype")
    dtype = getattr(mx, named) if named in MODEL_CONVERSION_DTYPES else None
    allowed = getattr(model, "cast_predicate", lambda _: True)

    def cast_to(name: str, array: mx.array) -> mx.array:
        if dtype is None or not mx.issubdtype(array.dtype, mx.floating) or not allowed(name):
            return array
        return array.astype(dtype)

    return cast_to


def _alone(module: nn.Module) -> nn.Module:
    """The module without its children, unless it is an adapter and they are what it adapts."""
    if hasattr(module, "fuse"):
        return module
    own = copy.copy(module)
    for name, value in module.items():
        if not isinstance(value, mx.array):
            del own[name]
    return own


def _require_divisible(model: nn.Module, group_size: int, predicate: Any) -> None:
    """Refuse layers whose inputs are not a multiple of the group size: mlx-lm would not quantize them."""
    left_out = {
        path: module.weight.shape[-1]
        for path, module in model.named_modules()
        if hasattr(module, "to_quantized")
        and module.weight.shape[-1] % group_size
        and (predicate is None or predicate(path, module))
    }
    if not left_out:
        return
    sizes = sorted(set(left_out.values()))
    fits = [size for size in _GROUPS if not any(extent % size for extent in sizes)]
    raise PunieError(
        "The group size does not divide the inputs of every layer.",
        where=f"quantize.group_size={group_size}",
        found=f"{len(left_out)} layers, such as {next(iter(left_out))}: {', '.join(map(str, sizes))} inputs",
        expected="inputs that are a multiple of the group size",
        next_step=(f"quantize.group_size={max(fits)}, or " if fits else "") + "quantize=none",
    )
