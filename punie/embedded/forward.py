"""The loss of the embedded models in plain arithmetic, fast on a CPU.

It computes what ``mlx_lm.models.qwen3`` and ``qwen3_moe`` compute, from the same parameters (a test compares
them), about three times as fast: exponentials by a polynomial instead of MLX's scalar routine, sparse experts
as two products over all experts instead of many small ones, and logits only where a token is predicted.

Import only after ``punie.model.blas.activate()``: this module imports mlx.

Shape letters: B = conversations of a batch, T = tokens of the longest of them, V = vocabulary, D = hidden
width, H = query heads, K = key and value heads, W = head width, E = experts, F = width of an expert, N =
tokens to predict.
"""

from __future__ import annotations

from typing import Any, cast

import mlx.core as mx

from punie.embedded.specs import Spec

_EPSILON = 1e-6
_TAYLOR = (
    *(1.0, 0.6931471805599453, 0.2402265069591007, 0.05550410866482158),
    *(0.009618129107628477, 0.001333355814642844),
)
"""ln(2)^n / n!: 2^f as a power series in f."""


@mx.custom_function
def _exp(x: mx.array) -> mx.array:
    y = mx.maximum(x, -80.0) * 1.4426950408889634
    k = mx.floor(y + 0.5)
    f = y - k
    power = mx.full(f.shape, 0.00015403530393381606)
    for coefficient in reversed(_TAYLOR):
        power = power * f + coefficient
    return power * mx.view((k.astype(mx.int32) + 127) << 23, mx.float32)


@_exp.vjp
def _(primals: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * output


def exp(x: mx.array) -> mx.array:
    """e^x for x up to 80, within a few units of float32's last place; e^-80 for x below -80.

    It is 2^k, made of its bits, times 2^f with |f| <= 1/2, a Taylor polynomial.
    """
    return cast(mx.array, _exp(x))


def silu(x: mx.array) -> mx.array:
    """x / (1 + e^-x)."""
    return x / (1.0 + exp(mx.minimum(-x, 80.0)))


def _norm(x: mx.array, weight: mx.array) -> mx.array:
    """Root-mean-square normalisation over the last axis."""
    return x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True) + _EPSILON) * weight


def _attention(p: Any, x: mx.array, spec: Spec, mask: mx.array) -> mx.array:
    """Causal attention with normalised queries and keys, (B, T, D) -> (B, T, D)."""
    batch, length, _ = x.shape
    shared = spec.heads // spec.kv_heads

    def heads(name: str, count: int) -> mx.array:
        y = x @ p[f"{name}_proj"]["weight"].T
        y = y.reshape(batch, length, count, spec.head_dim)
        if name == "v":
            return y.transpose(0, 2, 1, 3)
        y = _norm(y, p[f"{name}_norm"]["weight"]).transpose(0, 2, 1, 3)  # (B, H or K, T, W)
        return mx.fast.rope(y, spec.head_dim, traditional=False, base=10000.0, scale=1.0, offset=0)

    queries = heads("q", spec.heads) * spec.head_dim**-0.5
    queries = queries.reshape(batch, spec.kv_heads, shared * length, spec.head_dim)
    keys, values = heads("k", spec.kv_heads), heads("v", spec.kv_heads)
    scores = queries @ keys.transpose(0, 1, 3, 2)
    scores = scores.reshape(batch, spec.kv_heads, shared, length, length) + mask
    weights = exp(scores - mx.stop_gradient(scores.max(axis=-1, keepdims=True)))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    mixed = weights.reshape(batch, spec.kv_heads, shared * length, length) @ values
    mixed = mixed.reshape(batch, spec.heads, length, spec.head_dim).transpose(0, 2, 1, 3)
    return mixed.reshape(batch, length, -1) @ p["o_proj"]["weight"].T


def _feed_forward(p: Any, x: mx.array) -> mx.array:
    """The dense block, (B, T, D) -> (B, T, D)."""
    hidden = silu(x @ p["gate_proj"]["weight"].T) * (x @ p["up_proj"]["weight"].T)
    return hidden @ p["down_proj"]["weight"].T


def _experts(p: Any, x: mx.array, active: int) -> mx.array:
    """The sparse block, (B, T, D) -> (B, T, D): all experts, of which the inactive ones have weight 0."""
    gates = mx.softmax(x @ p["gate"]["weight"].T, axis=-1)  # (B, T, E)
    lowest = mx.stop_gradient(mx.sort(gates, axis=-1)[..., -active, None])
    scores = mx.where(gates >= lowest, gates, 0.0)
    scores = scores / scores.sum(axis=-1, keepdims=True)
    wide = {name: p["switch_mlp"][name]["weight"] for name in ("gate_proj", "up_proj", "down_proj")}
    gate, up = (x @ wide[name].reshape(-1, x.shape[-1]).T for name in ("gate_proj", "up_proj"))
    hidden = (silu(gate) * up).reshape(*scores.shape, -1) * scores[..., None]  # (B, T, E, F)
    down = wide["down_proj"].transpose(0, 2, 1).reshape(-1, x.shape[-1])  # (E * F, D)
    return hidden.reshape(*x.shape[:-1], -1) @ down


def loss(parameters: Any, spec: Spec, tokens: mx.array, positions: mx.array, targets: mx.array) -> mx.array:
    """Mean cross-entropy of the tokens that follow some positions.

    Args:
        parameters: The parameters of an mlx-lm model, float32.
        spec: Its dimensions.
        tokens: Token ids, (B, T).
        positions: Positions in the flattened tokens, (N,).
        targets: The ids that follow them, (N,).
    """
    p = parameters["model"]
    length = tokens.shape[1]
    mask = mx.where(mx.arange(length)[:, None] >= mx.arange(length), 0.0, -1e9)
    x = p["embed_tokens"]["weight"][tokens]  # (B, T, D)
    for layer in p["layers"]:
        x = x + _attention(layer["self_attn"], _norm(x, layer["input_layernorm"]["weight"]), spec, mask)
        h = _norm(x, layer["post_attention_layernorm"]["weight"])
        mlp = layer["mlp"]
        x = x + (_experts(mlp, h, spec.active_experts) if "gate" in mlp else _feed_forward(mlp, h))
    x = _norm(x.reshape(-1, x.shape[-1])[positions], p["norm"]["weight"])
    logits = x @ p["embed_tokens"]["weight"].T  # (N, V)
    logits = logits - mx.stop_gradient(logits.max(axis=-1, keepdims=True))
    chosen = mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return (mx.log(exp(logits).sum(axis=-1)) - chosen).mean()
