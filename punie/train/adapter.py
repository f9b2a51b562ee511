"""What is trained: a LoRA or DoRA adapter on the last layers, or the layers themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from punie.model.load import save_arrays
from punie.train.batches import mlx_seed
from punie.util.errors import PunieError

WEIGHTS = "adapters.safetensors"
CONFIG = "adapter_config.json"


def attach(
    model: nn.Module,
    *,
    fine_tune_type: str,
    num_layers: int,
    rank: int,
    scale: float,
    dropout: float,
    keys: list[str] | None,
    seed: int,
) -> dict[str, Any]:
    """Attach an adapter to a model in training precision, and freeze everything else.

    The arguments are fields of ``lora``, documented in the config's schema. The initial values come from the
    seed's own stream for adapters.

    Returns:
        The adapter's description in mlx-lm's format (adapter_config.json).

    Raises:
        PunieError: The model has fewer layers, none of the keys, or layers that this type cannot train.
    """
    depth = len(model.layers)
    if num_layers > depth:
        raise PunieError(
            "The adapter has more layers than the model.",
            where="lora.num_layers",
            found=num_layers,
            expected=f"at most {depth}",
            next_step=f"lora.num_layers={depth}, or -1 for all",
        )
    layers = depth if num_layers == -1 else num_layers
    model.freeze()
    description: dict[str, Any] = {"fine_tune_type": fine_tune_type, "num_layers": layers}
    if fine_tune_type == "full":
        for layer in model.layers[depth - layers :]:
            if any(isinstance(module, nn.QuantizedLinear) for _, module in layer.named_modules()):
                raise PunieError(
                    "A quantized layer cannot be trained as a whole.",
                    where="lora.fine_tune_type=full",
                    next_step="lora.fine_tune_type=lora, or a model that is not quantized",
                )
            layer.unfreeze()
        return description
    parameters: dict[str, Any] = {"rank": rank, "scale": scale, "dropout": dropout}
    if keys is not None:
        parameters["keys"] = keys
    mx.random.seed(mlx_seed(seed, "adapter"))
    try:
        linear_to_lora_layers(model, layers, parameters, use_dora=fine_tune_type == "dora")
    except ValueError as error:
        raise PunieError(
            "The adapter does not fit the model.",
            where=f"lora.fine_tune_type={fine_tune_type}",
            found=error,
            next_step="lora.fine_tune_type=lora, or lora.keys=[self_attn.q_proj,self_attn.v_proj]",
        ) from error
    if not tree_flatten(model.trainable_parameters()):
        names = {name for name, _ in model.layers[-1].named_modules() if "." in name and "lora" not in name}
        raise PunieError(
            "No layer of the model is adapted.",
            where=f"lora.keys={keys}",
            expected=f"some of {', '.join(sorted(names))}",
        )
    mx.eval(model.trainable_parameters())
    return description | {"lora_parameters": parameters}


def save(model: nn.Module, folder: Path, description: dict[str, Any]) -> None:
    """Write the trained weights and their description, in mlx-lm's format."""
    weights = {name: cast(mx.array, value) for name, value in tree_flatten(model.trainable_parameters())}
    save_arrays(folder / WEIGHTS, weights)
    (folder / CONFIG).write_text(json.dumps(description, indent=1) + "\n")
