"""Random adapters of small models, in mlx-lm's format, as punie's training writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten

from punie.model import load
from punie.model.trainable import unfreeze

KEY = "base"
"""The key of the base that every adapter names."""


def write(base: Path, folder: Path, **recipe: Any) -> Path:
    """Write an adapter on a base, all of whose numbers are random; ``recipe`` is as for ``unfreeze``."""
    plain: dict[str, Any] = {
        "fine_tune_type": "lora",
        "num_layers": 2,
        "rank": 4,
        "scale": 5.0,
        "dropout": 0.0,
        "keys": None,
    }
    model, _ = load.load_lazily(base)
    description = unfreeze(model, **(plain | recipe))
    mx.random.seed(1)
    initial = cast("list[tuple[str, mx.array]]", tree_flatten(model.trainable_parameters()))
    arrays = {name: array + 0.05 * mx.random.normal(array.shape) for name, array in initial}
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), arrays)
    (folder / "adapter_config.json").write_text(json.dumps(description | {"base_key": KEY}))
    return folder
