"""Answers from a model: continuous batching, and draws that belong to the sample, not to the batch."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

PREFILL_STEP = 2048
"""Prompt tokens read in one forward pass."""


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
    """Generated ids, without the end token; those of a stop text are among them."""
    logprobs: list[float] | None
    """Log-probability of each token under the model at temperature 1; None if they were not wanted."""
    finish_reason: str
    """``stop`` or ``length``."""
    seconds: float
    """From the start of the whole run to this answer's last token."""


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
    """Answer every request, in their order.

    What all prompts begin with is read once, and so is a prompt that neighbouring requests repeat.

    Args:
        model: The model, in evaluation mode.
        tokenizer: mlx-lm's tokenizer wrapper.
        requests: Prompts with their limits; ids are unique.
        sampling: How to draw.
        stop: Texts that end an answer, besides the tokenizer's end tokens.
        batch_size: Answers generated together. The draws do not depend on it; the last bits of logits do.
        done: Called with the number of finished answers.
        logprobs: Whether to keep each token's log-probability.
    """
    ends = set(tokenizer.eos_token_ids)
    draws = _Draws(sampling)
    generator = draws.generator = BatchGenerator(
        model,
        sampler=draws,
        stop_tokens=[(token,) for token in ends],
        completion_batch_size=batch_size,
        prefill_batch_size=batch_size,
        prefill_step_size=PREFILL_STEP,
    )
    waiting = _prepared(model, requests)
    running: dict[int, _Answering] = {}
    answers: dict[str, Answer] = {}
    began = time.perf_counter()
    try:
        while len(answers) < len(requests):
            while len(running) < 2 * batch_size and (following := next(waiting, None)):
                request, rest, cache = following
                (uid,) = generator.insert([rest], max_tokens=[request.max_tokens], caches=[cache])
                draws.add(uid, request.id)
                running[uid] = _Answering(request, tokenizer, stop)
            responses = generator.next_generated()
            chosen = _chosen(responses) if logprobs else [None] * len(responses)
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
                draws.remove(response.uid)
                del running[response.uid]
            done(len(answers))
    finally:
        generator.close()
    return [answers[request.id] for request in requests]


def _chosen(responses: Sequence[Any]) -> list[float]:
    """The log-probability of each response's token."""
    rows = mx.stack([response.logprobs for response in responses])
    tokens = mx.array([[response.token] for response in responses])
    return cast(list[float], mx.take_along_axis(rows, tokens, axis=1)[:, 0].tolist())


class _Answering:
    """One answer on its way."""

    def __init__(self, request: Request, tokenizer: Any, stop: Sequence[str]) -> None:
        self.request = request
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = stop
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        # A token is a byte at least, so a stop text that has just ended lies within this many tokens.
        self._tail = max((len(word.encode()) for word in stop), default=0)

    def add(self, token: int, logprob: float | None) -> None:
        self._tokens.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        if self._stop:
            tail = self._tokenizer.decode(self._tokens[-self._tail :])
            self.stopped = any(word in tail for word in self._stop)

    def finish(self, reason: str, seconds: float) -> Answer:
        return Answer(
            id=self.request.id,
            text=_until(self._tokenizer.decode(self._tokens), self._stop),
            tokens=self._tokens,
            logprobs=self._logprobs if len(self._logprobs) == len(self._tokens) else None,
            finish_reason=reason,
            seconds=round(seconds, 4),
        )


def _prepared(
    model: nn.Module, requests: Sequence[Request]
) -> Iterator[tuple[Request, list[int], list[Any]]]:
    """Each request with the rest of its prompt and the cache of what was read before it.

    A cache is only ever copied from, so requests can have one in common.
    """
    prompts = [request.prompt for request in requests]
    prefix = shared_prefix(prompts)
    shared = read(model, prefix)
    last: list[int] = []
    cache = shared
    for index, request in enumerate(requests):
        if request.prompt == last:
            yield request, request.prompt[-1:], cache
        elif request.prompt in prompts[index + 1 : index + 2]:
            last, cache = request.prompt, read(model, request.prompt[len(prefix) : -1], after=shared)
            yield request, request.prompt[-1:], cache
        else:
            yield request, request.prompt[len(prefix) :], shared


def shared_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all prompts begin with; at least one token of each is left over."""
    shared: list[int] = []
    for column in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared


def read(model: nn.Module, tokens: Sequence[int], *, after: list[Any] | None = None) -> list[Any]:
    """The prompt cache of a text, batch size 1.

    Args:
        model: The model.
        tokens: The text; may be empty.
        after: The cache of what comes before; it is left as it is.
    """
    cache = make_prompt_cache(model) if after is None else copy.deepcopy(after)
    for start in range(0, len(tokens), PREFILL_STEP):
        model(mx.array([tokens[start : start + PREFILL_STEP]]), cache=cache)
        mx.eval([layer.state for layer in cache])
    return cache


class _Draws:
    """The sampler of a whole batch, in which every answer's n-th draw is keyed by seed, request and n alone.

    mlx-lm's own truncation is applied at temperature 1, then the draw at the temperature, in its order: the
    likeliest token after Gumbel noise is a draw (Gumbel, "Statistical Theory of Extreme Values", 1954).
    One call for all rows costs less than a sampler for each answer.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.generator: BatchGenerator | None = None
        """Who calls; it has the order of the rows."""
        self._sampling = sampling
        self._truncate = truncation(sampling)
        self._drawn: dict[int, tuple[str, int]] = {}

    def add(self, uid: int, request_id: str) -> None:
        self._drawn[uid] = (request_id, 0)

    def remove(self, uid: int) -> None:
        del self._drawn[uid]

    def __call__(self, logprobs: mx.array) -> mx.array:  # (B, V) -> (B,)
        if self._sampling.temperature == 0:
            return mx.argmax(logprobs, axis=-1)
        rows = self._rows()
        if len(rows) != len(logprobs):
            raise RuntimeError(f"{len(logprobs)} rows of a batch, and {len(rows)} answers known to be in it")
        keys = mx.array([self._key(uid) for uid in rows], dtype=mx.uint32)  # (B, 2)
        noise = mx.vmap(lambda key: mx.random.gumbel((logprobs.shape[-1],), key=key))(keys)
        return mx.argmax(self._truncate(logprobs) + self._sampling.temperature * noise, axis=-1)

    def _rows(self) -> list[int]:
        """The answers that a call is about: those just leaving their prompts, else all that are under way."""
        assert self.generator is not None  # noqa: S101 - set before anything runs
        places = self.generator._find_uids(self._drawn)
        new = [uid for uid, (_, count) in self._drawn.items() if count == 0 and uid not in places]
        under_way = sorted((place, uid) for uid, (stage, place) in places.items() if stage == 2)
        return new or [uid for _, uid in under_way]

    def _key(self, uid: int) -> list[int]:
        request_id, count = self._drawn[uid]
        self._drawn[uid] = (request_id, count + 1)
        digest = hashlib.sha256(f"{self._sampling.seed}/{request_id}/{count}".encode()).digest()
        return [int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")]


def truncation(sampling: Sampling) -> Callable[[mx.array], mx.array]:
    """What takes the tokens out of log-probabilities (..., V) that are never drawn, in mlx-lm's order."""
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
