"""What of a model is trained: an adapter on its last layers, or the layers themselves.

The same for a model that computes and for one of which only the shapes exist, so that what does not fit is
refused before a weight is read.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.utils import linear_to_lora_layers

from punie.util.errors import PunieError

_QUANTIZED = (nn.QuantizedLinear, nn.QuantizedEmbedding, QuantizedSwitchLinear)
_ADAPTABLE = (nn.Linear, nn.Embedding, SwitchLinear, *_QUANTIZED)
"""Kinds of layers that mlx-lm puts an adapter on."""


def unfreeze(
    model: Any,
    *,
    fine_tune_type: str,
    num_layers: int,
    rank: int,
    scale: float,
    dropout: float,
    keys: Sequence[str] | None,
) -> dict[str, Any]:
    """Attach an adapter to a model, or unfreeze its last layers, and freeze everything else.

    The arguments are fields of ``lora``, documented in the config's schema.

    Returns:
        The adapter's description in mlx-lm's format (adapter_config.json).

    Raises:
        PunieError: The model has fewer layers, lacks one of the keys, or has layers that this type cannot
            train.
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
            if any(isinstance(module, _QUANTIZED) for _, module in layer.named_modules()):
                raise PunieError(
                    "A quantized layer cannot be trained as a whole.",
                    where="lora.fine_tune_type=full",
                    next_step="lora.fine_tune_type=lora, or a model that is not quantized",
                )
            layer.unfreeze()
        return description
    parameters: dict[str, Any] = {"rank": rank, "scale": scale, "dropout": dropout}
    if keys is not None:
        parameters["keys"] = list(keys)
        _require_keys(model, layers, keys)
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
        raise PunieError("No layer of the model is adapted.", where=f"lora.keys={keys}")
    return description | {"lora_parameters": parameters}


def _require_keys(model: Any, layers: int, keys: Sequence[str]) -> None:
    """Refuse keys that name no layer: mlx-lm would train the others only, and not say so."""
    inside = {
        name: module for layer in model.layers[-layers:] for name, module in layer.named_modules() if name
    }
    unknown = [key for key in keys if key not in inside and key not in dict(model.named_modules())]
    if keys and not unknown:
        return
    there = sorted(n for n, m in inside.items() if isinstance(m, _ADAPTABLE) or hasattr(m, "to_lora"))
    near = {key: match for key in unknown if (match := _near(key, there))}
    meant = ", ".join(f"{match} instead of {key}" for key, match in near.items())
    raise PunieError(
        "No layer of the model is adapted."
        if len(unknown) == len(keys)
        else "Some of lora.keys are not the name of a layer.",
        where=f"lora.keys={list(keys)}",
        found=f"no layer is called {', '.join(unknown)}" if unknown else None,
        expected=f"some of {', '.join(there)}",
        next_step=f"did you mean {meant}?" if meant else None,
    )


def _near(key: str, names: Sequence[str]) -> str | None:
    """The name that a key most likely means: the one whose last parts it is, or one that is spelt alike."""
    ends = [name for name in names if name.endswith(f".{key}")]
    return next(iter(ends or difflib.get_close_matches(key, names, 1)), None)
