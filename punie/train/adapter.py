"""What is trained: a LoRA or DoRA adapter on the last layers, or the layers themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from punie.model.load import save_arrays
from punie.model.trainable import unfreeze
from punie.train.batches import mlx_seed

WEIGHTS = "adapters.safetensors"
CONFIG = "adapter_config.json"


def attach(model: nn.Module, *, seed: int, **recipe: Any) -> dict[str, Any]:
    """Attach an adapter to a model in training precision, as ``trainable.unfreeze`` does with the recipe.

    The initial values come from the seed's own stream for adapters.

    Returns:
        The adapter's description in mlx-lm's format (adapter_config.json).

    Raises:
        PunieError: The adapter does not fit the model.
    """
    mx.random.seed(mlx_seed(seed, "adapter"))
    description = unfreeze(model, **recipe)
    mx.eval(model.trainable_parameters())
    return description


def save(model: nn.Module, folder: Path, description: dict[str, Any]) -> None:
    """Write the trained weights and their description, in mlx-lm's format."""
    weights = {name: cast(mx.array, value) for name, value in tree_flatten(model.trainable_parameters())}
    save_arrays(folder / WEIGHTS, weights)
    (folder / CONFIG).write_text(json.dumps(description, indent=1) + "\n")
