"""The options of a training as plain values, and the optimizer that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.optimizers as optimizers
from mlx_lm.tuner.utils import build_schedule

from punie.util.errors import PunieError

_KINDS = (optimizers.Adam, optimizers.AdamW, optimizers.Muon, optimizers.SGD, optimizers.Adafactor)
_CLASSES = {kind.__name__.lower(): kind for kind in _KINDS}


@dataclass(frozen=True)
class Recipe:
    """Fields of ``lora``, documented in the config's schema."""

    iters: int
    batch_size: int
    grad_accumulation_steps: int
    accumulation: str
    learning_rate: float
    lr_schedule: dict[str, Any] | None
    optimizer: str
    optimizer_config: dict[str, Any]
    steps_per_report: int
    steps_per_eval: int
    val_batches: int
    save_every: int
    keep_checkpoints: int
    select: str
    grad_checkpoint: bool
    seed: int
    patience: int | None = None


def build_optimizer(recipe: Recipe) -> optimizers.Optimizer:
    """The optimizer with its learning rate or schedule.

    Raises:
        PunieError: mlx has no such schedule, or the optimizer does not take these options.
    """
    try:
        schedule = build_schedule(recipe.lr_schedule) if recipe.lr_schedule else recipe.learning_rate
    except (AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise PunieError(
            "The learning-rate schedule cannot be built.",
            where="lora.lr_schedule",
            found=error,
            expected="name and arguments of one of mlx.optimizers' schedules, such as cosine_decay",
        ) from error
    try:
        return _CLASSES[recipe.optimizer](learning_rate=schedule, **recipe.optimizer_config)
    except (TypeError, ValueError) as error:
        raise PunieError(
            "The optimizer does not take these options.", where="lora.optimizer_config", found=error
        ) from error
