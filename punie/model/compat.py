"""Everything that punie uses of MLX and mlx-lm beyond their public interfaces; one test each holds it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from mlx_lm.utils import maybe_set_recommended_wired_limit

_VIEWS = {
    "Broadcast", "Squeeze", "ExpandDims", "Unflatten", "Flatten", "Transpose", "Reshape", "Slice", "Arange",
}  # fmt: skip
"""MLX's primitives whose result is a view of their input, or small."""


def set_server_loader(load: Callable[..., tuple[Any, Any, Any]]) -> None:
    """Make mlx_lm.server load its models with this function instead of ``mlx_lm.load``.

    The server's model provider looks the name up whenever it loads.
    """
    from mlx_lm import server

    setattr(server, "load", load)  # noqa: B010 - a type checker would refuse the assignment


def repeat_rows(cache: list[Any], times: int) -> None:
    """Repeat a prompt cache of batch size 1 along the batch, in place, by rewriting each layer's state."""

    def repeated(state: Any) -> Any:
        """Other leaves than arrays, such as an offset, are shared."""
        return mx.repeat(state, times, axis=0) if isinstance(state, mx.array) else state

    for layer in cache:
        layer.state = tree_map(repeated, layer.state)


def intermediate_bytes(layers: Sequence[nn.Module], *, tokens: int, width: int, dtype: mx.Dtype) -> int:
    """Bytes of all that a layer computes from (1, tokens, width), views not counted; evaluates nothing.

    The layer is the last one that computes from its input alone: some take keys and values of an earlier one,
    and those without attention take no mask.

    Raises:
        Exception: Whatever the last layer raised, if there is none.
    """
    failed: Exception | None = None
    for layer in reversed(layers):
        for mask in ("causal", None):
            try:
                return _intermediate_bytes(layer, mask, tokens=tokens, width=width, dtype=dtype)
            except Exception as error:  # whatever an architecture leads to
                failed = failed or error
    raise failed or ValueError("the model has no layers")


def _intermediate_bytes(
    layer: nn.Module, mask: str | None, *, tokens: int, width: int, dtype: mx.Dtype
) -> int:
    """Reads the graph that MLX exports, and knows MLX's primitives by name."""
    parameters = cast(list[tuple[str, mx.array]], tree_flatten(layer.parameters()))
    names = [name for name, _ in parameters]
    nodes: list[dict[str, Any]] = []

    def call(x: mx.array, *weights: mx.array) -> mx.array:
        layer.update(tree_unflatten(list(zip(names, weights, strict=True))))
        found = layer(x, mask, None)
        return found[0] if isinstance(found, tuple) else found

    inputs = [mx.zeros((1, tokens, width), dtype), *(array for _, array in parameters)]
    try:
        mx.export_function(nodes.append, call, *inputs)
    finally:
        layer.update(tree_unflatten(parameters))
    return sum(
        math.prod(shape) * kind.size
        for node in nodes
        if node["type"] == "primitive" and node["name"] not in _VIEWS
        for _, shape, kind in node["outputs"]
    )


@contextlib.contextmanager
def wired_memory() -> Generator[None]:
    """Let the block use the GPU memory that the device recommends; no effect where it recommends none."""
    before = maybe_set_recommended_wired_limit()
    try:
        yield
    finally:
        if before is not None:
            mx.set_wired_limit(before)


@contextlib.contextmanager
def gradient_checkpointing(model: nn.Module, enabled: bool) -> Generator[None]:
    """Recompute the layers' activations in the backward pass while the block runs.

    mlx-lm replaces ``__call__`` of the layers' class and never puts it back; this does.
    """
    from mlx_lm.tuner.trainer import grad_checkpoint

    kind = type(model.layers[0])
    call = kind.__call__
    if enabled:
        grad_checkpoint(model.layers[0])
    try:
        yield
    finally:
        kind.__call__ = call
