"""Which rows are trained on, in which order: a function of the lengths, the batch size and the seed alone.

Validation, reporting, checkpoints and resumption never touch it, so that changing any of them cannot
reorder training. Each purpose draws from a stream of its own, so that one cannot shift another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

STREAMS = {"order": 1, "adapter": 2, "dropout": 3, "validation": 4}
_BUCKET = 16
"""Rows whose lengths round to the same multiple are interchangeable; tokens."""


def stream(seed: int, purpose: str, *part: int) -> np.random.Generator:
    """The generator of one purpose (a key of ``STREAMS``) under a seed; ``part`` divides it further."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, STREAMS[purpose], *part])))


def mlx_seed(seed: int, purpose: str, *part: int) -> int:
    """A seed for MLX's own generator, of one purpose's stream."""
    return int(stream(seed, purpose, *part).integers(2**63))


def training_batches(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Batches of row indices without end; every row is in exactly one batch of an epoch.

    Each epoch deals the rows out anew: shuffled, sorted into buckets of like length (little padding),
    cut into batches, and the batches shuffled. The last batch of an epoch may be smaller; no row is
    dropped.

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
    """The rows every validation of a run scores, shortest first.

    Args:
        lengths: Tokens of each validation row.
        batch_size: Rows in a batch.
        batches: How many batches' worth of rows to draw once; -1 takes all.
        seed: ``lora.seed``.
    """
    count = len(lengths) if batches < 0 else min(len(lengths), batches * batch_size)
    rows = stream(seed, "validation").permutation(len(lengths))[:count]
    rows = sorted((int(row) for row in rows), key=lambda row: (lengths[row], row))
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
