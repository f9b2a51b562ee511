"""The exact probability that a response opens a tool-call block, at every temperature, by one forward pass.

log P_T(y) = Σᵢ [zᵢ(yᵢ)/T − logsumexp(zᵢ/T)] for the tokens y of a spelling, whose logits z do not depend on
the temperature T. Nor does truncation (top-p, min-p, top-k), which the sampler applies at T = 1: a token
outside the kept set has probability 0. No spelling is the beginning of another, so probabilities add up.

Shapes: V the vocabulary, K temperatures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from punie.model.compat import repeat_rows
from punie.model.generate import Sampling, read, shared_prefix, truncate

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Branch:
    """One spelling as tokens."""

    name: str
    tokens: Tokens
    """All but the last."""
    last: Tokens
    """Every token that completes the text; most of them also begin the text after it."""


@dataclass(frozen=True)
class Lock:
    """The format lock of one prompt."""

    curves: dict[str, np.ndarray]
    """Spelling to its probability, (K,), float64."""
    margin: float
    """Smallest difference, in logits, of a token of the first spelling and the most likely other token. If it
    is below 0, greedy decoding departs from the spelling."""

    @property
    def total(self) -> np.ndarray:
        """Probability of any of the spellings, (K,)."""
        return np.minimum(np.sum(list(self.curves.values()), axis=0), 1.0)


def branches(tokenizer: Any, spellings: Mapping[str, str]) -> list[Branch]:
    """The spellings as a model writes them.

    The end of a text often merges with what follows (``>`` and a line break are one token in some
    vocabularies), so every token that begins with the text of the last token completes the spelling.

    Raises:
        ValueError: One text is the beginning of another, so that their probabilities do not add up.
    """
    texts = list(spellings.values())
    for text in texts:
        if sum(other.startswith(text) for other in texts) > 1:
            raise ValueError(f"{text!r} is the beginning of another spelling, or given twice")
    ids = sorted(tokenizer.get_vocab().values())
    pieces = dict(zip(ids, tokenizer.batch_decode([[token] for token in ids]), strict=True))
    found = []
    for name, text in spellings.items():
        tokens = tokenizer.encode(text, add_special_tokens=False)
        rest = pieces[tokens[-1]]
        # The text of half a character is empty, and so the beginning of every token.
        last = tuple(token for token in ids if pieces[token].startswith(rest)) if rest else (tokens[-1],)
        found.append(Branch(name, tuple(tokens[:-1]), last))
    return found


def format_lock(
    model: nn.Module,
    spellings: Sequence[Branch],
    prompts: Sequence[Sequence[int]],
    *,
    temperatures: Sequence[float],
    samplings: Sequence[Sampling],
    done: Callable[[int], None] = lambda _: None,
) -> list[list[Lock]]:
    """The format lock of every prompt, at each of K temperatures; at 0 a probability is 0 or 1.

    Of ``samplings`` only the truncation is used: each has its own curve.

    Returns:
        By sampling, by prompt.
    """
    prefix = shared_prefix(prompts)
    shared = read(model, prefix)
    found: list[list[Lock]] = [[] for _ in samplings]
    for count, prompt in enumerate(prompts, 1):
        logits = _logits(model, prompt[len(prefix) :], spellings, shared)
        margin = _margin(logits, spellings[0])
        for locks, sampling in zip(found, samplings, strict=True):
            locks.append(Lock(_curves(logits, spellings, temperatures, sampling), margin))
        done(count)
    return found


def _logits(
    model: nn.Module, prompt: Sequence[int], spellings: Sequence[Branch], shared: list[Any]
) -> dict[Tokens, mx.array]:
    """By the tokens generated so far, the logits of the next one, (V,), float32."""
    cache = read(model, prompt[:-1], after=shared)
    rows = [[prompt[-1], *branch.tokens] for branch in spellings]
    longest = max(map(len, rows))
    repeat_rows(cache, len(rows))
    logits = model(mx.array([row + [0] * (longest - len(row)) for row in rows]), cache=cache)
    return {
        branch.tokens[:position]: logits[row, position].astype(mx.float32)
        for row, branch in enumerate(spellings)
        for position in range(len(branch.tokens) + 1)
    }


def _curves(
    logits: Mapping[Tokens, mx.array],
    spellings: Sequence[Branch],
    temperatures: Sequence[float],
    sampling: Sampling,
) -> dict[str, np.ndarray]:
    """Spelling to its probability at each temperature, (K,)."""
    row = {written: index for index, written in enumerate(logits)}
    z = mx.stack(list(logits.values()))
    kept = truncate(z - mx.logsumexp(z, axis=-1, keepdims=True), sampling)  # (rows, V)
    warm = np.array([t for t in temperatures if t > 0])
    norms = _norms(kept, warm)
    likeliest = cast(list[int], mx.argmax(kept, axis=-1).tolist())
    curves: dict[str, np.ndarray] = {}
    for branch in spellings:
        path = [row[branch.tokens[:position]] for position in range(len(branch.tokens) + 1)]
        on_path = list(zip(path, branch.tokens, strict=False))
        steps = math.fsum(cast(float, kept[at, token].item()) for at, token in on_path)
        ends = np.array(kept[path[-1]][mx.array(branch.last)], dtype=np.float64)
        sampled = np.exp(steps / warm - norms[:, path].sum(axis=1)) * np.exp(ends / warm[:, None]).sum(axis=1)
        greedy = all(likeliest[at] == token for at, token in on_path) and likeliest[path[-1]] in branch.last
        curves[branch.name] = np.full(len(temperatures), float(greedy))
        curves[branch.name][np.array(temperatures) > 0] = np.minimum(sampled, 1.0)  # rounding goes beyond
    return curves


def _norms(kept: mx.array, temperatures: np.ndarray) -> np.ndarray:
    """The logarithm of the normalization of each row, (K, rows): once for a row that spellings share."""
    if len(temperatures) == 0:
        return np.empty((0, len(kept)))
    if mx.default_device() != mx.cpu:
        return np.array(
            mx.stack([mx.logsumexp(kept / t, axis=-1) for t in temperatures.tolist()]), dtype=np.float64
        )
    z = np.array(kept)  # on a CPU numpy's exp is 15 times faster than mlx's
    top = z.max(axis=-1, keepdims=True)
    z -= top
    scaled, ones = np.empty_like(z), np.ones(z.shape[-1], dtype=z.dtype)
    norms = np.empty((len(temperatures), len(z)))
    for norm, t in zip(norms, temperatures, strict=True):
        np.exp(np.multiply(z, np.float32(1 / t), out=scaled), out=scaled)
        norm[:] = np.log(scaled @ ones) + top[:, 0] / t
    return norms


def _margin(logits: Mapping[Tokens, mx.array], branch: Branch) -> float:
    """The smallest difference along a spelling, in logits."""
    smallest = math.inf
    for position, wanted in enumerate([*((token,) for token in branch.tokens), branch.last]):
        z = np.array(logits[branch.tokens[:position]])
        ours = z[list(wanted)].max()
        z[list(wanted)] = -np.inf
        smallest = min(smallest, float(ours - z.max()))
    return smallest
