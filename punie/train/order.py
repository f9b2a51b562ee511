"""The order of training: it depends on the rows' lengths, the batch size and the seed alone.

Each purpose samples from its own stream, so that one cannot shift another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

STREAMS = {"order": 1, "adapter": 2, "dropout": 3, "validation": 4}
_BUCKET = 16
"""Tokens; rows whose lengths round down to the same multiple share batches."""


def stream(seed: int, purpose: str, *part: int) -> np.random.Generator:
    """The generator of a purpose (a key of ``STREAMS``) and, within it, of a part."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, STREAMS[purpose], *part])))


def mlx_seed(seed: int, purpose: str, *part: int) -> int:
    """A seed for MLX's generator, from the stream of a purpose and a part."""
    return int(stream(seed, purpose, *part).integers(2**63))


def training_batches(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of row indices; every row is in exactly one batch of an epoch.

    In each epoch the rows are shuffled, sorted into buckets of similar length (for little padding) and cut
    into batches, and the batches are shuffled. The last one may be smaller; no row is dropped.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows in a batch.
        seed: ``lora.seed``.
    """
    rng = stream(seed, "order")
    buckets = np.asarray(lengths) // _BUCKET
    while True:
        rows = rng.permutation(len(lengths))
        rows = rows[np.argsort(buckets[rows], kind="stable")]
        batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        for index in rng.permutation(len(batches)):
            yield [int(row) for row in batches[index]]


def validation_batches(lengths: Sequence[int], batch_size: int, batches: int, seed: int) -> list[list[int]]:
    """The batches of row indices that every validation of a run scores, shortest row first.

    Args:
        lengths: Tokens of each validation row.
        batch_size: Rows in a batch.
        batches: Number of batches whose rows are sampled once; -1 takes all rows.
        seed: ``lora.seed``.
    """
    count = len(lengths) if batches < 0 else min(len(lengths), batches * batch_size)
    rows = stream(seed, "validation").permutation(len(lengths))[:count]
    rows = sorted((int(row) for row in rows), key=lambda row: (lengths[row], row))
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
