"""What a model, its adapter and its training will take, from its config alone: no weights needed.

MLX's arrays are lazy. A model of any size is built, quantized, given its adapter, fused and quantized again
in seconds and in a few dozen megabytes, as long as nothing is evaluated; its sizes are then read off.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import get_total_parameters

from punie.model.fuse import working_bytes
from punie.model.layout import lay_out, require_settings
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt

_STATE = 4 * 4
"""Bytes to a trainable weight: value, gradient and Adam's two moments, all float32."""
_ACCUMULATED = 4
"""Bytes more where gradients are summed over minibatches."""
_HEAD = 4 + 4
"""Bytes to a logit beyond its own: as float32, and its gradient."""
_KEPT = 0.4
"""Share of a layer's intermediate results that is in memory at the peak: the backward pass does not need them
all, and MLX frees what nobody needs. Measured on a CPU (benchmarks/memory.py)."""
_VIEWS = {
    "Broadcast", "Squeeze", "ExpandDims", "Unflatten", "Flatten", "Transpose", "Reshape", "Slice", "Arange",
}  # fmt: skip
"""Primitives whose result is another look at their input, or small."""
_TRACED = (256, 512)
"""Lengths at which a layer's intermediate results and the cache are counted; tokens."""


@dataclass(frozen=True)
class Sizes:
    """A recipe's sizes."""

    parameters: int
    """Of the base model."""
    trainable: int
    base_bytes: int
    """The base model's weights, as stored."""
    adapter_bytes: int
    """The adapter's weights, float32."""
    result_bytes: int
    """The fused and quantized model's weights."""
    bits_per_weight: float
    quantize_bytes: int
    """Memory that fusing and quantizing takes at a time."""
    training: Training
    cache_bytes: tuple[int, int]
    """Of all layers: what a sequence takes, however long, and what each of its tokens adds."""


@dataclass(frozen=True)
class Training:
    """Where a training's memory goes; bytes."""

    weights: int
    """The model in memory."""
    state: int
    """Adapter, gradients, optimizer."""
    vocabulary: int
    width: int
    trained_layers: int
    batch_size: int
    grad_checkpoint: bool
    number: int
    """Bytes to a number, as the model computes."""
    traced: tuple[tuple[int, int], ...]
    """Bytes of all intermediate results of one trained layer, at two lengths in tokens."""

    def peak(self, tokens: int) -> int:
        """Peak for rows of this many tokens."""
        rows = self.batch_size
        layer = math.ceil(_KEPT * self._layer(tokens) * rows)
        kept = layer * self.trained_layers
        if self.grad_checkpoint:  # what enters each layer, and one layer's inside
            kept = layer + self.trained_layers * tokens * self.width * self.number * rows
        return self.weights + self.state + rows * tokens * self.vocabulary * (self.number + _HEAD) + kept

    def _layer(self, tokens: int) -> int:
        """a·T + b·T², through the two traced lengths: attention is what grows with the square."""
        (t1, y1), (t2, y2) = self.traced
        square = (y2 / t2 - y1 / t1) / (t2 - t1)
        return math.ceil(tokens * (y1 / t1 + square * (tokens - t1)))


def sizes(
    config: Mapping[str, Any],
    *,
    fine_tune_type: str,
    num_layers: int,
    rank: int,
    scale: float,
    keys: list[str] | None,
    bits: int | None,
    group_size: int,
    recipe: str | None,
    batch_size: int,
    accumulates: bool,
    grad_checkpoint: bool,
    float32: bool,
) -> Sizes:
    """Sizes of a recipe on a model.

    Args:
        config: The model's config.json, or the part of it that tells its dimensions.
        fine_tune_type: ``lora``, ``dora`` or ``full``.
        num_layers: Layers that are trained, from the last one; -1 for all.
        rank: Of the adapter.
        scale: Of the adapter.
        keys: Layers within a block.
        bits: Of the result.
        group_size: Of the result.
        recipe: Of the result.
        batch_size: Rows in a minibatch.
        accumulates: Gradients are summed over minibatches.
        grad_checkpoint: Activations are recomputed.
        float32: The model is dequantized and computes in float32, as on a CPU.

    Raises:
        PunieError: mlx-lm has no such model, or the settings do not fit it.
    """
    require_settings(bits, group_size, recipe)
    try:
        model = _model(config)
        base_bytes, parameters = _bytes(model.parameters()), get_total_parameters(model)
        depth = len(model.layers)
        layers = depth if num_layers == -1 else min(num_layers, depth)
        adapter = {"rank": rank, "scale": scale, "dropout": 0.0} | ({"keys": keys} if keys else {})

        def adapt(model: Any) -> int:
            model.freeze()
            if fine_tune_type == "full":
                for layer in model.layers[depth - layers :]:
                    layer.unfreeze()
            else:
                linear_to_lora_layers(model, layers, adapter, use_dora=fine_tune_type == "dora")
            return sum(array.size for array in _arrays(model.trainable_parameters()))

        trainable = adapt(model)
        plain = {k: v for k, v in config.items() if k not in ("quantization", "quantization_config")}
        text = {**config, **(config.get("text_config") or {})}  # of a model with several parts
        width = int(text["hidden_size"])
        computing = model
        if float32:
            computing = _model(plain | {"torch_dtype": "float32"})
            adapt(computing)
        number = 4 if float32 else 2
        kind = mx.float32 if float32 else mx.bfloat16
        layer = computing.layers[-1]
        traced = tuple((tokens, _intermediates(layer, tokens, width, kind)) for tokens in _TRACED)
        cache_bytes = _cache_bytes(computing)
        layout = lay_out(model, plain, bits=bits, group_size=group_size, recipe=recipe)
        return Sizes(
            parameters=parameters,
            trainable=trainable,
            base_bytes=base_bytes,
            adapter_bytes=4 * trainable,
            result_bytes=sum(tensor.nbytes for tensor in layout.tensors),
            bits_per_weight=layout.bits_per_weight,
            quantize_bytes=max(map(working_bytes, layout.sources.values())),
            training=Training(
                weights=4 * parameters if float32 else base_bytes,
                state=trainable * (_STATE + (_ACCUMULATED if accumulates else 0)),
                vocabulary=int(text["vocab_size"]),
                width=width,
                trained_layers=layers,
                batch_size=batch_size,
                grad_checkpoint=grad_checkpoint,
                number=number,
                traced=traced,
            ),
            cache_bytes=cache_bytes,
        )
    except PunieError:
        raise
    except Exception as error:  # of mlx-lm or MLX: whatever an architecture, or an adapter on it, leads to
        raise PunieError(
            "The memory that the model takes cannot be told.",
            where=f"mlx_lm.models.{config['model_type']}",
            found=f"{type(error).__name__}: {excerpt(str(error))}",
        ) from error


def _model(config: Mapping[str, Any]) -> nn.Module:
    """The base model as its config describes it, quantized as it says; nothing is evaluated."""
    try:
        arch = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
        model = arch.Model(arch.ModelArgs.from_dict(dict(config)))
    except (ImportError, KeyError, TypeError) as error:
        raise PunieError(
            "The model's config does not tell its size.",
            where="model.dimensions",
            found=error,
            expected="the fields of a config.json of an architecture that mlx-lm has",
        ) from error
    model.set_dtype(getattr(mx, config.get("torch_dtype") or "bfloat16"))
    if quantization := config.get("quantization"):
        own = getattr(model, "quant_predicate", None)

        def chosen(path: str, module: nn.Module) -> bool | dict[str, Any]:
            if path in quantization:
                return quantization[path]
            if not hasattr(module, "to_quantized") or module.weight.shape[-1] % quantization["group_size"]:
                return False
            return own(path, module) if own else True

        settings = {key: quantization[key] for key in ("group_size", "bits", "mode") if key in quantization}
        nn.quantize(model, **settings, class_predicate=chosen)
    return model


def _cache_bytes(model: Any) -> tuple[int, int]:
    """Bytes of the cache, all layers together: of a sequence, and of each of its tokens."""
    found = []
    for tokens in _TRACED:
        cache = make_prompt_cache(model)
        model(mx.zeros((1, tokens), mx.int32), cache=cache)
        found.append(_bytes([layer.state for layer in cache]))
    per_token = (found[1] - found[0]) // (_TRACED[1] - _TRACED[0])
    return found[0] - per_token * _TRACED[0], per_token


def _intermediates(layer: nn.Module, tokens: int, width: int, kind: mx.Dtype) -> int:
    """Bytes of everything that a layer computes from (1, tokens, width), views not counted."""
    parameters = cast(list[tuple[str, mx.array]], tree_flatten(layer.parameters()))
    names = [name for name, _ in parameters]
    nodes: list[dict[str, Any]] = []

    def call(x: mx.array, *weights: mx.array) -> mx.array:
        layer.update(tree_unflatten(list(zip(names, weights, strict=True))))
        return layer(x, "causal", None)

    mx.export_function(nodes.append, call, mx.zeros((1, tokens, width), kind), *[a for _, a in parameters])
    layer.update(tree_unflatten(parameters))
    return sum(
        math.prod(shape) * kind.size
        for node in nodes
        if node["type"] == "primitive" and node["name"] not in _VIEWS
        for _, shape, kind in node["outputs"]
    )


def _arrays(tree: Any) -> list[mx.array]:
    return [leaf for _, leaf in tree_flatten(tree) if isinstance(leaf, mx.array)]


def _bytes(tree: Any) -> int:
    return sum(array.nbytes for array in _arrays(tree))
