"""Tokenized rows, their file, and padded batches of them.

Shape letters: B = sequences in a batch, T = tokens of the longest of them, rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
from safetensors.numpy import load_file, save

PAD_TO = 8
"""Batches are padded to a multiple of this many tokens."""


@dataclass(frozen=True)
class Row:
    """One tokenized training example, already cut to length."""

    name: str
    """``file:line``, for messages."""
    tokens: list[int]
    spans: tuple[tuple[int, int], ...]
    """Half-open ranges of supervised tokens; none starts at 0, which has nothing to be predicted from."""

    @property
    def supervised(self) -> int:
        """Number of tokens that get loss."""
        return sum(end - start for start, end in self.spans)


@dataclass(frozen=True)
class Batch:
    """Padded sequences and their counts."""

    ids: mx.array
    """Token ids, int32, (B, T), padded on the right with 0."""
    mask: mx.array
    """Float32, (B, T - 1): 1 where the *next* token is supervised; padding never is."""
    tokens: int
    """Real tokens, prompts included."""
    supervised: int
    positions: int
    """B * T: what is computed, padding included."""


def pad(rows: Sequence[Row]) -> Batch:
    """The rows as one batch; T is the longest row's length, rounded up."""
    width = math.ceil(max(len(row.tokens) for row in rows) / PAD_TO) * PAD_TO
    ids = np.zeros((len(rows), width), np.int32)
    mask = np.zeros((len(rows), width - 1), np.float32)
    for index, row in enumerate(rows):
        ids[index, : len(row.tokens)] = row.tokens
        for start, end in row.spans:
            mask[index, start - 1 : end - 1] = 1.0
    return Batch(
        ids=mx.array(ids),
        mask=mx.array(mask),
        tokens=sum(len(row.tokens) for row in rows),
        supervised=sum(row.supervised for row in rows),
        positions=ids.size,
    )


def save_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as one safetensors file.

    Raises:
        OSError: The file cannot be written (safetensors' own ``save_file`` raises another error for that).
    """
    content = save(
        {
            "tokens": np.concatenate([np.asarray(row.tokens, np.int32) for row in rows]),
            "lengths": np.asarray([len(row.tokens) for row in rows], np.int64),
            "spans": np.asarray([span for row in rows for span in row.spans], np.int32).reshape(-1, 2),
            "span_counts": np.asarray([len(row.spans) for row in rows], np.int64),
            "lines": np.asarray([int(row.name.rpartition(":")[2]) for row in rows], np.int64),
        },
        metadata={"split": rows[0].name.rpartition(":")[0]},
    )
    path.write_bytes(content)


def load_rows(path: Path, split: str) -> list[Row]:
    """Read what ``save_rows`` wrote; ``split`` is the name of the rows' JSONL file, for messages."""
    stored = load_file(path)
    tokens = np.split(stored["tokens"], np.cumsum(stored["lengths"])[:-1])
    spans = np.split(stored["spans"], np.cumsum(stored["span_counts"])[:-1])
    return [
        Row(f"{split}:{line}", ids.tolist(), tuple((int(start), int(end)) for start, end in ranges))
        for line, ids, ranges in zip(stored["lines"], tokens, spans, strict=True)
    ]
