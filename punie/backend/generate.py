"""Answers from a model: continuous batching, and draws that belong to the sample, not to the batch."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator, StopSequences
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn; all of it is recorded with every result."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """One answer to generate."""

    id: str
    """Sample id and repeat: what the draws are keyed by, together with the seed."""
    prompt: list[int]
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """One generated answer."""

    id: str
    text: str
    """Without the stop sequence that ended it."""
    tokens: list[int]
    """Generated ids, without the end token."""
    logprobs: list[float]
    """Log-probability of each token under the model at temperature 1."""
    finish_reason: str
    """``stop`` or ``length``."""
    seconds: float
    """From the start of the batch run to this answer's last token."""


def generate(
    model: nn.Module,
    tokenizer: Any,
    requests: Sequence[Request],
    sampling: Sampling,
    *,
    stop: Sequence[str],
    batch_size: int,
    done: Callable[[int], None],
) -> list[Answer]:
    """Answer every request, in their order.

    Args:
        model: The model, in evaluation mode.
        tokenizer: mlx-lm's tokenizer wrapper.
        requests: Prompts with their limits; ids are unique.
        sampling: How to draw.
        stop: Texts that end an answer, besides the tokenizer's end tokens.
        batch_size: Answers generated together. The draws do not depend on it; the last bits of logits do.
        done: Called with the number of finished answers.
    """
    stops = StopSequences(
        [(token,) for token in tokenizer.eos_token_ids]
        + [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in stop]
    )
    generator = BatchGenerator(model, completion_batch_size=batch_size, prefill_batch_size=min(batch_size, 8))
    uids = generator.insert(
        [request.prompt for request in requests],
        max_tokens=[request.max_tokens for request in requests],
        samplers=None
        if sampling.temperature == 0
        else [_sampler(sampling, request.id) for request in requests],
        stop_sequences=[stops] * len(requests),
    )
    began = time.perf_counter()
    tokens: dict[int, list[int]] = {uid: [] for uid in uids}
    logprobs: dict[int, list[float]] = {uid: [] for uid in uids}
    ended: dict[int, tuple[str, float]] = {}
    try:
        while responses := generator.next_generated():
            chosen = cast(list[float], mx.stack([r.logprobs[r.token] for r in responses]).tolist())
            for response, logprob in zip(responses, chosen, strict=True):
                if response.finish_reason is not None:
                    ended[response.uid] = (response.finish_reason, time.perf_counter() - began)
                if response.finish_reason == "stop" and response.token in tokenizer.eos_token_ids:
                    continue
                tokens[response.uid].append(response.token)
                logprobs[response.uid].append(logprob)
            done(len(ended))
    finally:
        generator.close()
    return [
        Answer(
            id=request.id,
            text=_until(tokenizer.decode(tokens[uid]), stop),
            tokens=tokens[uid],
            logprobs=logprobs[uid],
            finish_reason=ended[uid][0],
            seconds=round(ended[uid][1], 4),
        )
        for uid, request in zip(uids, requests, strict=True)
    ]


def _sampler(sampling: Sampling, request_id: str) -> Callable[[mx.array], mx.array]:
    """A sampler whose n-th draw depends on the seed, the request and n, and on nothing else.

    mlx-lm's own truncation is applied at temperature 1, then the draw at the temperature, in its order.
    """
    truncate = _truncation(sampling)
    keys = _keys(sampling.seed, request_id)

    def draw(logprobs: mx.array) -> mx.array:  # (1, V) -> (1,)
        return mx.random.categorical(truncate(logprobs) / sampling.temperature, key=next(keys))

    return draw


def _keys(seed: int, request_id: str) -> Iterator[mx.array]:
    digest = hashlib.sha256(f"{seed}/{request_id}".encode()).digest()
    key = mx.random.key(int.from_bytes(digest[:8], "big"))
    while True:
        key, current = mx.random.split(key)
        yield current


def _truncation(sampling: Sampling) -> Callable[[mx.array], mx.array]:
    steps: list[Callable[[mx.array], mx.array]] = []
    if sampling.top_p < 1.0:
        steps.append(lambda x: apply_top_p(x, sampling.top_p))
    if sampling.min_p > 0.0:
        steps.append(lambda x: apply_min_p(x, sampling.min_p))
    if sampling.top_k > 0:
        steps.append(lambda x: apply_top_k(x, sampling.top_k))

    def truncate(logprobs: mx.array) -> mx.array:
        for step in steps:
            logprobs = step(logprobs)
        return logprobs

    return truncate


def _until(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the stop texts."""
    return min((text.split(word, 1)[0] for word in stop), key=len, default=text)
