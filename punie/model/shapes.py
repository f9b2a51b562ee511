"""Sizes of a model, its adapter, its training and its cache, from its config.json alone.

MLX's arrays are lazy. A model of any size is built, quantized, given its adapter, fused and quantized again
in seconds and in a few dozen megabytes, as long as nothing is evaluated; its sizes are read off the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import get_total_parameters

from punie.model.compat import architecture, intermediate_bytes
from punie.model.fuse import working_bytes
from punie.model.layout import lay_out
from punie.model.resolve import NotEstimated
from punie.model.trainable import unfreeze
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt

_STATE = 4 * 4
"""Bytes per trainable weight: value, gradient and Adam's two moments, all float32."""
_ACCUMULATED = 4
"""Bytes more where gradients are summed over micro-batches."""
LOGITS = 1 << 26
"""Logits that a training computes at a time; 256 MB in float32."""
_HEAD = 4 + 4
"""Bytes per logit beyond its own: its float32 copy, and its gradient."""
_KEPT = 0.4
"""Share of a layer's intermediate results that is in memory at the peak; MLX frees what the backward pass
does not need. Measured on a CPU (benchmarks/memory.py)."""
_TRACED = (256, 512)
"""Lengths at which a layer's intermediate results and the cache are counted; tokens."""


@dataclass(frozen=True)
class Training:
    """What the memory of a training consists of."""

    weights: int
    """The model in memory; bytes."""
    trainable: int
    """Trained parameters."""
    vocabulary: int
    width: int
    trained_layers: int
    number: int
    """Bytes per number, as the model computes."""
    traced: tuple[tuple[int, int], ...]
    """Bytes of all intermediate results of one trained layer, at two lengths in tokens."""

    def held(self, *, accumulates: bool) -> int:
        """Bytes held between steps: weights, adapter, gradients and optimizer."""
        return self.weights + self.trainable * (_STATE + (_ACCUMULATED if accumulates else 0))

    def step(self, tokens: int, *, batch_size: int, grad_checkpoint: bool) -> int:
        """Bytes that a step on examples of this many tokens takes beyond them."""
        logits = min(batch_size * tokens * self.vocabulary, LOGITS) * (self.number + _HEAD)
        layer = math.ceil(_KEPT * self._layer(tokens) * batch_size)
        if grad_checkpoint:  # the input of each layer, and the inside of one
            inputs = self.trained_layers * tokens * self.width * self.number * batch_size
            return logits + layer + inputs
        return logits + layer * self.trained_layers

    def _layer(self, tokens: int) -> int:
        """a·T + b·T², through the two traced lengths: attention is what grows with the square."""
        (t1, y1), (t2, y2) = self.traced
        square = (y2 / t2 - y1 / t1) / (t2 - t1)
        return math.ceil(tokens * (y1 / t1 + square * (tokens - t1)))


@dataclass(frozen=True)
class Sizes:
    """The sizes of a recipe on a model; those of weights in bytes, as stored."""

    parameters: int
    """Of the base model."""
    trainable: int
    base_bytes: int
    adapter_bytes: int
    result_bytes: int
    """The fused and quantized model's weights."""
    bits_per_weight: float
    quantize_bytes: int
    """Memory that fusing and quantizing takes."""
    training: Training
    cache_bytes: tuple[int, int]
    """Of all layers: bytes per sequence, whatever its length, and bytes per token."""


def sizes(
    config: Mapping[str, Any],
    *,
    fine_tune_type: str,
    num_layers: int,
    rank: int,
    keys: list[str] | None,
    bits: int | None,
    group_size: int,
    recipe: str | None,
    float32: bool,
) -> Sizes:
    """Compute the sizes of a recipe on a model.

    ``config`` is the model's config.json, or the part of it that states its dimensions. With ``float32`` the
    model is dequantized and computes in float32, as on a CPU. The others are fields of lora and quantize.

    Raises:
        NotEstimated: The config does not state the model's size, or punie does not know its kind.
        PunieError: mlx-lm has no such model, it cannot compute, or the settings do not fit it.
    """
    try:
        model = _model(config)
        base_bytes, parameters = _bytes(model.parameters()), get_total_parameters(model)
        _require_computable(model, config)
        adapter: dict[str, Any] = {
            "fine_tune_type": fine_tune_type, "num_layers": num_layers, "rank": rank, "scale": 1.0,
            "dropout": 0.0, "keys": keys,
        }  # fmt: skip
        layers = unfreeze(model, **adapter)["num_layers"]
        trainable = sum(cast(mx.array, array).size for _, array in tree_flatten(model.trainable_parameters()))
        plain = {k: v for k, v in config.items() if k not in ("quantization", "quantization_config")}
        text = {**config, **(config.get("text_config") or {})}  # of a model with several parts
        width = int(text["hidden_size"])
        dtype, computing = mx.bfloat16, model
        if float32:
            dtype, computing = mx.float32, _model(plain | {"torch_dtype": "float32"})
            unfreeze(computing, **adapter)
        training = Training(
            weights=4 * parameters if float32 else base_bytes,
            trainable=trainable,
            vocabulary=int(text["vocab_size"]),
            width=width,
            trained_layers=layers,
            number=dtype.size,
            traced=tuple(
                (tokens, intermediate_bytes(computing.layers, tokens=tokens, width=width, dtype=dtype))
                for tokens in _TRACED
            ),
        )
        cache = _cache_bytes(computing)
        layout = lay_out(model, plain, bits=bits, group_size=group_size, recipe=recipe)
        return Sizes(
            parameters=parameters,
            trainable=trainable,
            base_bytes=base_bytes,
            adapter_bytes=4 * trainable,
            result_bytes=sum(tensor.nbytes for tensor in layout.tensors),
            bits_per_weight=layout.bits_per_weight,
            quantize_bytes=max(map(working_bytes, layout.sources.values())),
            training=training,
            cache_bytes=cache,
        )
    except PunieError:
        raise
    except Exception as error:  # of mlx-lm or MLX: whatever an architecture, or an adapter on it, leads to
        raise NotEstimated(
            "The memory that the model takes cannot be estimated.",
            where=f"mlx_lm.models.{config['model_type']}",
            found=f"{type(error).__name__}: {excerpt(str(error))}",
        ) from error


def _model(config: Mapping[str, Any]) -> Any:
    """The base model that a config describes, quantized as it states; nothing is evaluated."""
    try:
        kind, arguments = architecture(config)
    except ValueError as error:
        raise PunieError(
            "Mlx-lm does not have the model's architecture.",
            where="config.json",
            found=f"model_type {config['model_type']}",
            next_step="use a model whose architecture mlx-lm has, or a newer mlx-lm: pip install -U mlx-lm",
        ) from error
    try:
        model = kind(arguments.from_dict(dict(config)))
    except (KeyError, TypeError) as error:
        raise NotEstimated(
            "The model's config does not state its size.",
            where="model.dimensions",
            found=error,
            expected="the fields of a config.json of an architecture that mlx-lm has",
        ) from error
    model.set_dtype(getattr(mx, config.get("torch_dtype") or "bfloat16"))
    if quantization := config.get("quantization"):
        own = getattr(model, "quant_predicate", None)

        def chosen(path: str, module: nn.Module) -> bool | dict[str, object]:
            if path in quantization:
                return quantization[path]
            if not hasattr(module, "to_quantized") or module.weight.shape[-1] % quantization["group_size"]:
                return False
            return own(path, module) if own else True

        settings = {key: quantization[key] for key in ("group_size", "bits", "mode") if key in quantization}
        nn.quantize(model, **settings, class_predicate=chosen)
    return model


def _require_computable(model: Any, config: Mapping[str, Any]) -> None:
    """Refuse a config whose dimensions contradict each other; of a lazy model only shapes are computed."""
    try:
        model(mx.zeros((1, 8), mx.int32))
    except ValueError as error:  # of MLX, about shapes
        raise PunieError(
            "The model cannot compute with the dimensions of its config.json.",
            where=f"config.json, model_type {config['model_type']}",
            found=excerpt(str(error), 300),
            next_step="correct num_attention_heads, num_key_value_heads, head_dim and hidden_size, "
            "or fetch the model again",
        ) from error


def _cache_bytes(model: Any) -> tuple[int, int]:
    """Bytes of the cache of all layers: per sequence, and per token."""
    found = []
    for tokens in _TRACED:
        cache = make_prompt_cache(model)
        model(mx.zeros((1, tokens), mx.int32), cache=cache)
        found.append(_bytes([layer.state for layer in cache]))
    per_token = (found[1] - found[0]) // (_TRACED[1] - _TRACED[0])
    return found[0] - per_token * _TRACED[0], per_token


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for _, leaf in tree_flatten(tree) if isinstance(leaf, mx.array))
