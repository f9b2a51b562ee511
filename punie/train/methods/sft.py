"""Supervised fine-tuning: cross-entropy on the tokens with loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.nn as nn

from punie.train.batches import Batch, Row, load_rows
from punie.train.forward import Forward
from punie.train.methods import Loss, Method


class Sft(Method[Row, Batch]):
    """The default method. It has no options."""

    def __init__(self, forward: Forward, lora: Mapping[str, Any]) -> None:
        self.forward = forward

    def load(self, path: Path, split: str) -> list[Row]:
        """The tokenized examples as they are."""
        return load_rows(path, split)

    def batch(self, examples: Sequence[Row], it: int) -> Batch:
        """The examples, padded on the right."""
        return self.forward.batch(examples)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy in nats, summed over the tokens with loss."""
        return Loss(self.forward.losses(model, batch).sum(), batch.supervised, {})
