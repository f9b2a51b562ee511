"""Training an embedded model from nothing, in float32 on the CPU.

Import only after ``punie.model.blas.activate()``: this module imports mlx.

Shape letters: B = conversations of a batch, T = tokens of the longest of them, N = tokens to predict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx_lm.models import qwen3, qwen3_moe
from tokenizers import Tokenizer

from punie.embedded.corpus import Corpus
from punie.embedded.forward import loss
from punie.embedded.generate import Message
from punie.embedded.muon import Muon
from punie.embedded.specs import Spec
from punie.embedded.tokenizer import SPECIAL
from punie.util.progress import Bar

_ARCHITECTURES: dict[str, Any] = {"qwen3": qwen3, "qwen3_moe": qwen3_moe}
_POOL = 512
"""Conversations drawn together and sorted by length, so that little of a batch is padding."""


def new_model(spec: Spec, seed: int) -> nn.Module:
    """A model with random weights, float32, that are a function of the seed."""
    mx.random.seed(seed)
    architecture = _ARCHITECTURES[spec.model_type]
    model = architecture.Model(architecture.ModelArgs.from_dict(spec.config()))
    mx.eval(model.parameters())
    return model


def pretrain(model: nn.Module, tokenizer: Tokenizer, spec: Spec, *, seed: int, steps: int, bar: Bar) -> None:
    """Train a model in place on the corpus of a seed.

    Args:
        model: What ``new_model`` returned.
        tokenizer: The embedded tokenizer.
        spec: Batch size, learning rate, warm-up and the share of made-up names.
        seed: Decides the corpus.
        steps: Optimizer steps; the schedule ends with them.
        bar: Told of every step.
    """
    optimizer = _optimizer(spec, steps)
    parameters = model.parameters()
    loss_and_gradient = mx.value_and_grad(loss)
    stream = batches(Corpus(seed, spec.novel), tokenizer, spec.batch_tokens)
    for step in range(1, steps + 1):
        batch = next(stream)
        value, gradient = loss_and_gradient(parameters, spec, *map(mx.array, batch))
        gradient, _ = optim.clip_grad_norm(gradient, 1.0)
        parameters = optimizer.apply_gradients(gradient, parameters)
        mx.eval(parameters, optimizer.state, value)
        bar(step, f"loss {value.item():.3f}")
    model.update(parameters)


def _optimizer(spec: Spec, steps: int) -> optim.Optimizer:
    """Muon for the matrices inside the layers, AdamW for embeddings, norms and the experts' gates."""
    warmup = min(spec.warmup, max(1, steps // 10))

    def schedule(peak: float) -> Any:
        low = 0.02 * peak
        rise, fall = (
            optim.linear_schedule(low, peak, warmup),
            optim.cosine_decay(peak, max(1, steps - warmup), low),
        )
        return optim.join_schedules([rise, fall], [warmup])

    return optim.MultiOptimizer(
        [
            Muon(schedule(spec.matrix_learning_rate)),
            optim.AdamW(schedule(spec.learning_rate), betas=[0.9, 0.98], weight_decay=0.01),
        ],
        [
            lambda name, weight: (
                weight.ndim >= 2 and not name.endswith(("embed_tokens.weight", "mlp.gate.weight"))
            )
        ],
    )


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
            tokens = np.full((len(rows), longest), padding, dtype=np.int32)
            said = np.zeros((len(rows), longest), dtype=bool)
            for index, (ids, answers) in enumerate(rows):
                tokens[index, : len(ids)] = ids
                said[index, : len(ids)] = answers
            following = np.flatnonzero(said)
            yield tokens, (following - 1).astype(np.int32), tokens.reshape(-1)[following]
