"""Training an embedded model from random weights, in float32 on the CPU.

The loss is computed in plain arithmetic, from the same parameters as in ``mlx_lm.models.qwen3`` and
``qwen3_moe`` (a test compares them), about three times as fast on a CPU: exponentials by a polynomial instead
of MLX's scalar routine, sparse experts as two products over all experts instead of many small ones, and
logits only where a token is predicted.

Import only after ``punie.model.blas.activate()``: this module imports mlx.

Shape letters: B = conversations of a batch, T = tokens of the longest of them, V = vocabulary, D = hidden
width, H = query heads, K = key and value heads, W = head width, E = experts, F = width of an expert, N =
tokens to predict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import qwen3, qwen3_moe
from tokenizers import Tokenizer

from punie.embedded.conversations import Corpus, Message
from punie.embedded.specs import SPECIAL, Spec
from punie.util.progress import Bar

_ARCHITECTURES: dict[str, Any] = {"qwen3": qwen3, "qwen3_moe": qwen3_moe}
_POOL = 512
"""Conversations that are drawn together and sorted by length, so that batches need little padding."""
_EPSILON = 1e-6
_TAYLOR = (
    *(1.0, 0.6931471805599453, 0.2402265069591007, 0.05550410866482158),
    *(0.009618129107628477, 0.001333355814642844),
)
"""ln(2)^n / n!: 2^f as a power series in f."""


def new_model(spec: Spec, seed: int) -> nn.Module:
    """A model with random float32 weights, which are a function of the seed."""
    mx.random.seed(seed)
    architecture = _ARCHITECTURES[spec.model_type]
    model = architecture.Model(architecture.ModelArgs.from_dict(spec.config()))
    mx.eval(model.parameters())
    return model


def pretrain(model: nn.Module, tokenizer: Tokenizer, spec: Spec, *, seed: int, bar: Bar) -> None:
    """Train a model in place on the corpus of a seed; ``bar`` is told of every step."""
    optimizer = _optimizer(spec)
    parameters = model.parameters()
    names = [name for name, _ in tree_flatten(parameters)]
    loss_and_gradient = mx.value_and_grad(loss)
    stream = batches(Corpus(seed, spec.novel), tokenizer, spec.batch_tokens)
    for step in range(1, spec.steps + 1):
        value, gradient = loss_and_gradient(parameters, spec, *map(mx.array, next(stream)))
        gradient, _ = optim.clip_grad_norm(gradient, 1.0)
        updated = dict(tree_flatten(optimizer.apply_gradients(gradient, parameters)))
        # MultiOptimizer orders names by their hash, and the norm of a gradient is summed in their order.
        parameters = tree_unflatten([(name, updated[name]) for name in names])
        mx.eval(parameters, optimizer.state, value)
        bar(step, f"loss {value.item():.3f}")
    model.update(parameters)


class Muon(optim.Muon):
    """Momentum whose update is made orthogonal, with decoupled weight decay (per unit of learning rate).

    After K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). At this size it
    reaches a given loss in about a third fewer steps than AdamW alone. MLX's own flattens a stack of experts
    into one matrix; here each expert's update is made orthogonal by itself.
    """

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        """One step of a matrix (rows, columns), or of a stack of them (experts, rows, columns)."""
        state["v"] = self.momentum * state["v"] + (1 - self.momentum) * gradient
        nesterov = self.momentum * state["v"] + (1 - self.momentum) * gradient
        rate = self.learning_rate.astype(gradient.dtype)
        shape = max(1.0, parameter.shape[-2] / parameter.shape[-1]) ** 0.5
        return parameter * (1 - rate * self.weight_decay) - rate * shape * orthogonal(nesterov)


def orthogonal(x: mx.array, steps: int = 5) -> mx.array:
    """About the nearest matrix with orthonormal rows or columns, by Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315  # of the quintic iteration, from the reference
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x
    x = x / (mx.sqrt((x * x).sum(axis=(-1, -2), keepdims=True)) + 1e-7)
    for _ in range(steps):
        gram = x @ x.swapaxes(-1, -2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.swapaxes(-1, -2) if tall else x


def _optimizer(spec: Spec) -> optim.Optimizer:
    """Muon for the matrices inside the layers, AdamW for embeddings, norms and the experts' gates."""
    warmup = min(spec.warmup, max(1, spec.steps // 10))

    def schedule(peak: float) -> Any:
        low = 0.02 * peak
        rise = optim.linear_schedule(low, peak, warmup)
        fall = optim.cosine_decay(peak, max(1, spec.steps - warmup), low)
        return optim.join_schedules([rise, fall], [warmup])

    def is_matrix(name: str, weight: mx.array) -> bool:
        return weight.ndim >= 2 and not name.endswith(("embed_tokens.weight", "mlp.gate.weight"))

    matrices = Muon(schedule(spec.matrix_learning_rate), weight_decay=0.1)
    others = optim.AdamW(schedule(spec.learning_rate), betas=[0.9, 0.98], weight_decay=0.01)
    return optim.MultiOptimizer([matrices, others], [is_matrix])


def encode(tokenizer: Tokenizer, messages: list[Message]) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation as the chat template renders it, and which of them the assistant says."""
    tokens: list[int] = []
    said: list[bool] = []
    for message in messages:
        assistant = message["role"] == "assistant"
        parts = (f"<|im_start|>{message['role']}\n", f"{message['content']}<|im_end|>", "\n")
        for part, is_said in zip(parts, (False, assistant, False), strict=True):
            ids = tokenizer.encode(part).ids
            tokens += ids
            said += [is_said] * len(ids)
    return tokens, said


def batches(
    corpus: Corpus, tokenizer: Tokenizer, budget: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Without end: token ids (B, T), positions (N,) in the flattened ids, and the ids (N,) that follow them.

    Only what the assistant says is predicted. A batch has at most ``budget`` tokens, padding included, and
    conversations of similar length.
    """
    padding = tokenizer.token_to_id(SPECIAL[0])
    while True:
        pool = [encode(tokenizer, corpus.conversation()) for _ in range(_POOL)]
        pool.sort(key=lambda row: len(row[0]))
        groups: list[list[tuple[list[int], list[bool]]]] = [[]]
        for row in pool:
            if (len(groups[-1]) + 1) * len(row[0]) > budget:
                groups.append([])
            groups[-1].append(row)
        corpus.rng.shuffle(groups)
        for rows in groups:
            longest = max(len(ids) for ids, _ in rows)
            tokens = np.array([ids + [padding] * (longest - len(ids)) for ids, _ in rows], dtype=np.int32)
            following = np.flatnonzero([said + [False] * (longest - len(said)) for _, said in rows])
            yield tokens, (following - 1).astype(np.int32), tokens.reshape(-1)[following]


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
