"""Training an embedded model from nothing, in float32 on the CPU.

Import only after ``punie.backend.blas.activate()``: this module imports mlx.

Shape letters: B = conversations of a batch, T = tokens of the longest of them, V = vocabulary,
D = hidden width, E = experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx_lm.models import qwen3, qwen3_moe
from tokenizers import Tokenizer

from punie.datasets.generate import Message
from punie.progress import Bar
from punie.tiny.corpus import Corpus
from punie.tiny.specs import Spec
from punie.tiny.tokenizer import SPECIAL

_ARCHITECTURES: dict[str, Any] = {"qwen3": qwen3, "qwen3_moe": qwen3_moe}
_POOL = 16
"""Batches drawn together and sorted by length, so that little of a batch is padding."""
_PROMPT_WEIGHT = 0.1
"""Weight of a token that was not said by the assistant: some, because requests teach to repeat names."""


def new_model(spec: Spec, seed: int) -> nn.Module:
    """A model with random weights, float32, that are a function of the seed."""
    mx.random.seed(seed)
    architecture = _ARCHITECTURES[spec.model_type]
    model = architecture.Model(architecture.ModelArgs.from_dict(spec.config()))
    mx.eval(model.parameters())
    return model


def pretrain(model: nn.Module, tokenizer: Tokenizer, spec: Spec, seed: int, steps: int, bar: Bar) -> None:
    """Train a model in place on the corpus of a seed.

    Args:
        model: What ``new_model`` returned.
        tokenizer: The embedded tokenizer.
        spec: Batch size, learning rate, warm-up and the share of made-up names.
        seed: Decides the corpus.
        steps: Optimizer steps; the schedule ends with them.
        bar: Told of every step.
    """
    warmup = min(spec.warmup, max(1, steps // 10))
    schedule = optim.join_schedules(
        [
            optim.linear_schedule(0.0, spec.learning_rate, warmup),
            optim.cosine_decay(spec.learning_rate, max(1, steps - warmup), 0.02 * spec.learning_rate),
        ],
        [warmup],
    )
    optimizer = optim.AdamW(schedule, betas=[0.9, 0.98], weight_decay=0.01)
    loss_and_gradient = nn.value_and_grad(model, _loss)
    batches = _batches(Corpus(seed, spec.novel), tokenizer, spec.batch)
    with _every_expert(model):
        for step in range(1, steps + 1):
            tokens, weights = next(batches)
            loss, gradient = loss_and_gradient(model, tokens, weights)
            gradient, _ = optim.clip_grad_norm(gradient, 1.0)
            optimizer.update(model, gradient)
            mx.eval(model.parameters(), optimizer.state, loss)
            bar(step, f"loss {loss.item():.3f}")


def _loss(model: nn.Module, tokens: mx.array, weights: mx.array) -> mx.array:
    """Mean cross-entropy of the next token, tokens (B, T), over positions weighted by weights (B, T-1)."""
    logits = model(tokens[:, :-1])
    return (nn.losses.cross_entropy(logits, tokens[:, 1:]) * weights).sum() / weights.sum()


def encode(tokenizer: Tokenizer, messages: list[Message]) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation as the chat template renders it, and which of them the assistant says."""
    tokens: list[int] = []
    said: list[bool] = []
    for message in messages:
        head = tokenizer.encode(f"<|im_start|>{message['role']}\n").ids
        body = tokenizer.encode(f"{message['content']}<|im_end|>").ids
        tail = tokenizer.encode("\n").ids
        tokens += head + body + tail
        said += [False] * len(head) + [message["role"] == "assistant"] * len(body) + [False] * len(tail)
    return tokens, said


def _batches(corpus: Corpus, tokenizer: Tokenizer, size: int) -> Iterator[tuple[mx.array, mx.array]]:
    """Batches of token ids (B, T) and weights (B, T-1), without end."""
    padding = tokenizer.token_to_id(SPECIAL[0])
    while True:
        pool = [encode(tokenizer, corpus.conversation()) for _ in range(size * _POOL)]
        pool.sort(key=lambda row: len(row[0]))
        groups = [pool[start : start + size] for start in range(0, len(pool), size)]
        corpus.rng.shuffle(groups)
        for rows in groups:
            longest = max(len(tokens) for tokens, _ in rows)
            tokens = np.full((size, longest), padding, dtype=np.int32)
            said = np.zeros((size, longest), dtype=np.float32)
            for index, (ids, answers) in enumerate(rows):
                tokens[index, : len(ids)] = ids
                said[index, : len(ids)] = np.where(answers, 1.0, _PROMPT_WEIGHT)
            yield mx.array(tokens), mx.array(said[:, 1:])


class _EveryExpert(qwen3_moe.Qwen3MoeSparseMoeBlock):
    """The sparse block with the same result, computed as three dense products over all experts.

    On a CPU, two large matrix products are quicker than many small ones over half the weights. What a token
    was not routed to is multiplied by zero.
    """

    def __call__(self, x: mx.array) -> mx.array:
        experts = self.switch_mlp
        gates = mx.softmax(self.gate(x), axis=-1)  # (B, T, E)
        lowest = mx.sort(gates, axis=-1)[..., -self.top_k, None]
        scores = mx.where(gates >= mx.stop_gradient(lowest), gates, 0.0)
        scores = scores / scores.sum(axis=-1, keepdims=True)
        up, gate = (
            x @ each.weight.reshape(-1, x.shape[-1]).T  # (B, T, E * F)
            for each in (experts.up_proj, experts.gate_proj)
        )
        hidden = (nn.silu(gate) * up).reshape(*scores.shape, -1) * scores[..., None]  # (B, T, E, F)
        down = experts.down_proj.weight.transpose(0, 2, 1).reshape(-1, x.shape[-1])  # (E * F, D)
        return hidden.reshape(*x.shape[:-1], -1) @ down


@contextmanager
def _every_expert(model: Any) -> Iterator[None]:
    """Within, a model's sparse blocks compute every expert."""
    blocks = [layer.mlp for layer in model.layers if isinstance(layer.mlp, qwen3_moe.Qwen3MoeSparseMoeBlock)]
    for block in blocks:
        block.__class__ = _EveryExpert
    try:
        yield
    finally:
        for block in blocks:
            block.__class__ = qwen3_moe.Qwen3MoeSparseMoeBlock
