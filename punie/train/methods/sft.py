"""Supervised fine-tuning: cross-entropy on the tokens with loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from punie.model.load import Loaded
from punie.train.batches import Batch, Row, load_rows, pad
from punie.train.methods import Loss, Method


class Sft(Method[Row, Batch]):
    """The default method. It needs neither the model nor options to be built."""

    def __init__(self, loaded: Loaded, lora: Mapping[str, Any]) -> None: ...

    def load(self, path: Path, split: str) -> list[Row]:
        """The tokenized examples as they are."""
        return load_rows(path, split)

    def batch(self, examples: Sequence[Row], it: int) -> Batch:
        """The examples, padded on the right."""
        return pad(examples)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy in nats, summed over the tokens with loss."""
        logits = model(batch.ids[:, :-1]).astype(mx.float32)  # (B, T - 1, vocabulary)
        total = (nn.losses.cross_entropy(logits, batch.ids[:, 1:]) * batch.mask).sum()
        return Loss(total, batch.supervised, {})
