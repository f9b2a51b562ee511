"""Writes an adapter as the `peft` library reads it, which has the same numbers in another order.

Sources: https://huggingface.co/docs/peft/developer_guides/checkpoint and `mlx_lm.tuner`. PEFT multiplies by
alpha / r, mlx-lm by its scale; a is (inputs, r) in mlx-lm, A is (r, inputs) in PEFT.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRALinear

from punie.model.gguf.architecture import ARCHITECTURES
from punie.model.layout import adapted
from punie.model.load import save_arrays
from punie.util.errors import PunieError
from punie.util.files import write_json

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_TYPES = {each.model_type for each in ARCHITECTURES.values()}
"""Model types whose layers have the same names in transformers."""


def write(base: Path, adapter: Path, out: Path, *, base_key: str, base_name: str) -> int:
    """Write adapter_config.json and adapter_model.safetensors; returns the number of adapted layers.

    ``base_key`` is as for ``fuse.fuse``; ``base_name`` is where transformers finds the base.

    Raises:
        PunieError: PEFT cannot hold what was trained; found before anything is written.
    """
    model, config = adapted(base, adapter, base_key=base_key)
    layers = {path: module for path, module in model.named_modules() if hasattr(module, "lora_a")}
    problem = None
    if not layers:
        problem = "whole layers were trained, not an adapter"
    elif config["model_type"] not in _TYPES:
        problem = f"a model of type {config['model_type']}, whose layers may have other names in transformers"
    else:
        problem = next((each for path, module in layers.items() if (each := _trouble(path, module))), None)
    if problem:
        raise PunieError(
            "PEFT cannot hold what this run has trained.",
            where=adapter,
            found=problem,
            expected="LoRA or DoRA on linear layers, and a base in floating point of one of the types "
            + ", ".join(sorted(_TYPES)),
            next_step="--to gguf; or train again with lora.keys=[self_attn.q_proj,self_attn.v_proj]",
        )
    arrays: dict[str, mx.array] = {}
    for path, module in layers.items():
        name = f"base_model.model.{path}"
        arrays[f"{name}.lora_A.weight"] = mx.contiguous(module.lora_a.T).astype(mx.float32)
        arrays[f"{name}.lora_B.weight"] = mx.contiguous(module.lora_b.T).astype(mx.float32)
        if isinstance(module, DoRALinear):
            arrays[f"{name}.lora_magnitude_vector"] = module.m.astype(mx.float32)
    save_arrays(out / WEIGHTS, arrays)
    first: Any = next(iter(layers.values()))
    rank = first.lora_a.shape[1]
    write_json(
        out / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "r": rank,
            "lora_alpha": first.scale * rank,
            "lora_dropout": 0.0,
            "use_dora": isinstance(first, DoRALinear),
            "bias": "none",
            "inference_mode": True,
            **_targets(list(layers)),
        },
    )
    return len(layers)


def _trouble(path: str, module: Any) -> str | None:
    """Why PEFT cannot adapt a layer so."""
    if not isinstance(module, (LoRALinear, DoRALinear)) or not path.endswith(("_proj", "lm_head")):
        return f"{type(module).__name__} on {path}, which is no linear layer in transformers"
    if isinstance(module.linear, nn.QuantizedLinear):
        return f"{path} of the base is quantized by MLX, which transformers does not load"
    return None


def _targets(paths: list[str]) -> dict[str, Any]:
    """How PEFT finds the layers: names in some blocks; else each by its whole name."""
    found = [(int(each[1]), each[2]) for each in map(_LAYER.fullmatch, paths) if each]
    numbers, names = sorted({number for number, _ in found}), sorted({name for _, name in found})
    if len(found) == len(paths) == len(numbers) * len(names):
        return {"target_modules": names, "layers_to_transform": numbers, "layers_pattern": "layers"}
    return {"target_modules": paths}
