"""Tokenized examples: their file, their order, and padded batches of them.

The order depends on the examples' lengths, the batch size and the seed alone. Each purpose samples from its
own stream, so that one cannot shift another.

Shape letters: B = sequences in a batch, T = tokens of the longest of them, rounded up, N = tokens with loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from safetensors.numpy import load_file, save

PAD_TO = 8
"""Batches are padded to a multiple of this many tokens."""
STREAMS = {"order": 1, "adapter": 2, "dropout": 3, "validation": 4}
_BUCKET = 16
"""Tokens; examples whose lengths round down to the same multiple share batches."""


@dataclass(frozen=True)
class Row:
    """One tokenized training example, already cut to length."""

    name: str
    """``file:line``, for messages."""
    tokens: list[int]
    spans: tuple[tuple[int, int], ...]
    """Half-open ranges of tokens with loss; none starts at 0, which has nothing to be predicted from."""

    @property
    def supervised(self) -> int:
        """Number of tokens that get loss."""
        return sum(end - start for start, end in self.spans)


@dataclass(frozen=True)
class Batch:
    """Padded sequences and their counts."""

    ids: mx.array
    """Token ids, int32, (B, T), padded on the right with 0."""
    where: mx.array
    """Positions in the flattened (B, T - 1) whose *next* token has loss, int32, (N,); padding never has."""
    targets: mx.array
    """Those next tokens, int32, (N,)."""
    tokens: int
    """Real tokens, prompts included."""
    supervised: int
    """Tokens with loss."""
    positions: int
    """B * T: what is computed, padding included."""
    states: mx.array | None
    """What the frozen layers give for the first T - 1 tokens, (B, T - 1, D), where that is known."""


def width(examples: Sequence[Row]) -> int:
    """T: the length of the longest example, rounded up."""
    return math.ceil(max(len(example.tokens) for example in examples) / PAD_TO) * PAD_TO


def pad(examples: Sequence[Row], states: mx.array | None = None) -> Batch:
    """The examples as one batch."""
    ids = np.zeros((len(examples), width(examples)), np.int32)
    where: list[int] = []
    for index, example in enumerate(examples):
        ids[index, : len(example.tokens)] = example.tokens
        first = index * (ids.shape[1] - 1)
        where += (first + position - 1 for span in example.spans for position in range(*span))
    return Batch(
        ids=mx.array(ids),
        where=mx.array(where, mx.int32),
        targets=mx.array(ids[:, 1:].ravel()[where], mx.int32),
        tokens=sum(len(example.tokens) for example in examples),
        supervised=sum(example.supervised for example in examples),
        positions=ids.size,
        states=states,
    )


def save_rows(path: Path, examples: Sequence[Row]) -> None:
    """Write examples as one safetensors file.

    Raises:
        OSError: The file cannot be written (safetensors' own ``save_file`` raises another error for that).
    """
    content = save(
        {
            "tokens": np.concatenate([np.asarray(example.tokens, np.int32) for example in examples]),
            "lengths": np.asarray([len(example.tokens) for example in examples], np.int64),
            "spans": np.asarray([span for example in examples for span in example.spans], np.int32).reshape(
                -1, 2
            ),
            "span_counts": np.asarray([len(example.spans) for example in examples], np.int64),
            "lines": np.asarray([int(example.name.rpartition(":")[2]) for example in examples], np.int64),
        },
        metadata={"split": examples[0].name.rpartition(":")[0]},
    )
    path.write_bytes(content)


def load_rows(path: Path, split: str) -> list[Row]:
    """Read what ``save_rows`` wrote; ``split`` is the name of their JSONL file, for messages."""
    stored = load_file(path)
    tokens = np.split(stored["tokens"], np.cumsum(stored["lengths"])[:-1])
    spans = np.split(stored["spans"], np.cumsum(stored["span_counts"])[:-1])
    return [
        Row(f"{split}:{line}", ids.tolist(), tuple((int(start), int(end)) for start, end in ranges))
        for line, ids, ranges in zip(stored["lines"], tokens, spans, strict=True)
    ]


def stream(seed: int, purpose: str, *part: int) -> np.random.Generator:
    """The generator of a purpose (a key of ``STREAMS``) and, within it, of a part."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, STREAMS[purpose], *part])))


def mlx_seed(seed: int, purpose: str, *part: int) -> int:
    """A seed for MLX's generator, from the stream of a purpose and a part."""
    return int(stream(seed, purpose, *part).integers(2**63))


def training_batches(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of indices of examples, by their ``lengths`` in tokens; each is once in an epoch.

    In each epoch the examples are shuffled, sorted into buckets of similar length (for little padding) and
    cut into batches, and the batches are shuffled. The last one may be smaller; no example is dropped.
    """
    rng = stream(seed, "order")
    buckets = np.asarray(lengths) // _BUCKET
    while True:
        examples = rng.permutation(len(lengths))
        examples = examples[np.argsort(buckets[examples], kind="stable")]
        batches = [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]
        for index in rng.permutation(len(batches)):
            yield [int(example) for example in batches[index]]


def validation_batches(lengths: Sequence[int], batch_size: int, batches: int, seed: int) -> list[list[int]]:
    """The batches of indices that every validation of a run scores, the shortest example first.

    The examples of ``batches`` batches are sampled once; -1 takes all.
    """
    count = len(lengths) if batches < 0 else min(len(lengths), batches * batch_size)
    examples = stream(seed, "validation").permutation(len(lengths))[:count]
    examples = sorted((int(example) for example in examples), key=lambda example: (lengths[example], example))
    return [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]
