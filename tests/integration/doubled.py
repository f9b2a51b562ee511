"""A training method that a test adds: twice the loss of sft."""

from __future__ import annotations

import mlx.nn as nn

from punie.train.batches import Batch
from punie.train.methods import Loss
from punie.train.methods.sft import Sft


class Doubled(Sft):
    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        total, weight, log = super().loss(model, batch)
        return Loss(2 * total, weight, log)
