"""Generates responses with continuous batching; what is sampled depends on the request, not on the batch."""

from __future__ import annotations

import copy
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, greedy_sampler

PREFILL_STEP = 2048
"""Prompt tokens read in one forward pass."""
PADDING = 10_000
"""Tokens of padding that are accepted before prompts are sorted by length."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled; recorded with every result."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """One response to generate."""

    id: str
    """Sample id and repeat; with the seed, the key of the sampled tokens."""
    prompt: list[int]
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """One generated response."""

    id: str
    text: str
    """Without the stop sequence that ended it."""
    tokens: list[int]
    """Generated ids, without the end token, with those of a stop text."""
    logprobs: list[float] | None
    """Log-probability of each token under the model at temperature 1; None if not asked for."""
    finish_reason: str
    """``stop`` or ``length``."""
    seconds: float
    """From the start of ``generate`` to this response's last token."""


def generate(
    model: nn.Module,
    tokenizer: Any,
    requests: Sequence[Request],
    sampling: Sampling,
    *,
    stop: Sequence[str],
    batch_size: int,
    done: Callable[[int], None],
    logprobs: bool = True,
) -> list[Answer]:
    """Generate a response to every request, in their order.

    The prefix that all prompts share is read once, and so is a prompt that neighbouring requests repeat. The
    ids of requests are unique. ``stop`` are texts that end a response, besides the tokenizer's end tokens.
    Only the last bits of the logits depend on ``batch_size``.
    """
    ordered, together = arranged(requests, batch_size)
    ends = set(tokenizer.eos_token_ids)
    generator = BatchGenerator(
        model,
        stop_tokens=[(token,) for token in ends],
        completion_batch_size=batch_size,
        prefill_batch_size=together,
        prefill_step_size=PREFILL_STEP,
    )
    waiting = _prepared(model, ordered)
    running: dict[int, _Answering] = {}
    answers: dict[str, Answer] = {}
    began = time.perf_counter()
    try:
        while len(answers) < len(requests):
            while len(running) < 2 * batch_size and (following := next(waiting, None)):
                request, rest, cache = following
                sampler = _sampler(sampling, request.id) if sampling.temperature else greedy_sampler
                (uid,) = generator.insert(
                    [rest], max_tokens=[request.max_tokens], caches=[cache], samplers=[sampler]
                )
                running[uid] = _Answering(request, tokenizer, stop)
            responses = generator.next_generated()
            chosen: Sequence[float | None] = [None] * len(responses)
            if logprobs:
                tokens = mx.array([[response.token] for response in responses])
                found = mx.take_along_axis(mx.stack([each.logprobs for each in responses]), tokens, axis=1)
                chosen = cast(list[float], found[:, 0].tolist())
            for response, logprob in zip(responses, chosen, strict=True):
                answer = running[response.uid]
                ended = response.finish_reason == "stop" and response.token in ends
                if not ended:
                    answer.add(response.token, logprob)
                if response.finish_reason is None and not answer.stopped:
                    continue
                if response.finish_reason is None:
                    generator.remove([response.uid])
                answers[answer.request.id] = answer.finish(
                    "stop" if ended or answer.stopped else "length", time.perf_counter() - began
                )
                del running[response.uid]
            done(len(answers))
    finally:
        generator.close()
    return [answers[request.id] for request in requests]


class _Answering:
    """A response that is being generated."""

    def __init__(self, request: Request, tokenizer: Any, stop: Sequence[str]) -> None:
        self.request = request
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = stop
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        # A token has at least one byte, so a stop text that has just ended lies within this many tokens.
        self._tail = max((len(word.encode()) for word in stop), default=0)

    def add(self, token: int, logprob: float | None) -> None:
        self._tokens.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        if self._stop:
            tail = self._tokenizer.decode(self._tokens[-self._tail :])
            self.stopped = any(word in tail for word in self._stop)

    def finish(self, reason: str, seconds: float) -> Answer:
        text = self._tokenizer.decode(self._tokens)
        return Answer(
            id=self.request.id,
            text=min((text.split(word, 1)[0] for word in self._stop), key=len, default=text),
            tokens=self._tokens,
            logprobs=self._logprobs if len(self._logprobs) == len(self._tokens) else None,
            finish_reason=reason,
            seconds=round(seconds, 4),
        )


def arranged(requests: Sequence[Request], batch_size: int) -> tuple[Sequence[Request], int]:
    """The order in which prompts are read, and how many at once.

    If padding to the longest of a batch would take more than ``PADDING`` tokens, the longest prompts come
    first, and so few are read at once that padding takes at most a tenth of the tokens.
    """

    def padding(order: Sequence[Request], size: int) -> int:
        lengths = [len(prompt) for prompt, _ in itertools.groupby(order, lambda request: request.prompt)]
        batches = (lengths[start : start + size] for start in range(0, len(lengths), size))
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    if padding(requests, batch_size) <= PADDING:
        return requests, batch_size
    ordered = sorted(requests, key=lambda request: len(request.prompt), reverse=True)
    total = sum(len(prompt) for prompt, _ in itertools.groupby(ordered, lambda request: request.prompt))
    size = batch_size
    while size > 1 and padding(ordered, size) > total / 10:
        size //= 2
    return ordered, size


def _prepared(
    model: nn.Module, requests: Sequence[Request]
) -> Iterator[tuple[Request, list[int], list[Any]]]:
    """Each request with the rest of its prompt, and the cache of what precedes the rest.

    A cache is only copied, never changed, so requests can share one.
    """
    prefix = shared_prefix([request.prompt for request in requests])
    shared = read(model, prefix)
    for prompt, repeats in itertools.groupby(requests, lambda request: request.prompt):
        alike, rest = list(repeats), prompt[len(prefix) :]
        if len(alike) == 1:
            yield alike[0], rest, shared
            continue
        cache = read(model, rest[:-1], after=shared)
        for request in alike:
            yield request, rest[-1:], cache


def shared_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all prompts begin with, leaving at least one token of each."""
    shared: list[int] = []
    for column in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared


def read(model: nn.Module, tokens: Sequence[int], *, after: list[Any] | None = None) -> list[Any]:
    """Read a text into a prompt cache, batch size 1, behind a copy of the cache of what precedes it."""
    cache = make_prompt_cache(model) if after is None else copy.deepcopy(after)
    for start in range(0, len(tokens), PREFILL_STEP):
        model(mx.array([tokens[start : start + PREFILL_STEP]]), cache=cache)
        mx.eval([layer.state for layer in cache])
    return cache


def _sampler(sampling: Sampling, request_id: str) -> Callable[[mx.array], mx.array]:
    """Samples the tokens of one request; the n-th sample depends on seed, request and n alone.

    mlx-lm's own truncation is applied at temperature 1, then a token is sampled at the temperature, by the
    Gumbel-max trick (Gumbel, "Statistical Theory of Extreme Values", 1954).
    """
    counter = itertools.count()

    def sample(logprobs: mx.array) -> mx.array:  # (1, V) -> (1,)
        digest = hashlib.sha256(f"{sampling.seed}/{request_id}/{next(counter)}".encode()).digest()
        words = [int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")]
        noise = mx.random.gumbel(logprobs.shape, key=mx.array(words, dtype=mx.uint32))
        return mx.argmax(truncate(logprobs, sampling) + sampling.temperature * noise, axis=-1)

    return sample


def truncate(logprobs: mx.array, sampling: Sampling) -> mx.array:
    """Log-probabilities (..., V) without what is never sampled, in mlx-lm's order."""
    if sampling.top_p < 1.0:
        logprobs = apply_top_p(logprobs, sampling.top_p)
    if sampling.min_p > 0.0:
        logprobs = apply_min_p(logprobs, sampling.min_p)
    if sampling.top_k > 0:
        logprobs = apply_top_k(logprobs, sampling.top_k)
    return logprobs
