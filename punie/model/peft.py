"""Reads and writes adapters of the `peft` library, which has the same numbers in another order.

Sources: https://huggingface.co/docs/peft/developer_guides/checkpoint and `mlx_lm.tuner`. PEFT multiplies by
alpha / r, mlx-lm by its scale; a is (inputs, r) in mlx-lm, A is (r, inputs) in PEFT.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear

from punie.model.adapters import BY_PEFT, CONFIG, WEIGHTS, Adapter
from punie.model.gguf.architecture import ARCHITECTURES
from punie.model.layout import adapted
from punie.model.load import save_arrays
from punie.util.errors import PunieError
from punie.util.files import write_json

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_TYPES = {each.model_type for each in ARCHITECTURES.values()}
"""Model types whose layers have the same names in transformers."""
_ADAPTED = (
    ((nn.Linear, nn.QuantizedLinear), LoRALinear),
    ((nn.Embedding, nn.QuantizedEmbedding), LoRAEmbedding),
)
"""Kinds of layers that a PEFT adapter may change, and what takes their place."""


def attach(model: nn.Module, base: Path, adapter: Adapter) -> None:
    """Put the layers of a PEFT adapter on a lazy model; ``base`` is its folder.

    Raises:
        PunieError: The model has no such layer, or one of another size.
    """
    arrays = cast("dict[str, mx.array]", mx.load(str(adapter.file)))
    there, made, unknown = dict(model.named_modules()), [], []
    for name, about in adapter.layers.items():
        path = next((each for each in (name, f"language_model.{name}") if each in there), None)
        kind = path and next((made for known, made in _ADAPTED if isinstance(there[path], known)), None)
        if path is None or kind is None or ("m" in about.parts) > (kind is LoRALinear):
            unknown.append(name)
            continue
        if "m" in about.parts:
            kind = DoRALinear
        layer = cast(Any, kind).from_base(there[path], r=about.rank, scale=about.scale)
        for part, tensor in about.parts.items():
            array = arrays[tensor].flatten() if part == "m" else arrays[tensor].T
            if array.shape != layer[part].shape:
                raise PunieError(
                    "The adapter belongs to a model of other sizes.",
                    where=adapter.folder,
                    found=f"{tensor} {tuple(arrays[tensor].shape)}",
                    expected=f"{tuple(layer[part].T.shape)}, as {path} of {base} needs",
                    next_step=f"give the model that it was trained on: {adapter.base or 'its card names it'}",
                )
            layer[part] = array
        made.append((path, layer))
    if unknown:
        raise PunieError(
            "The adapter changes layers that punie cannot adapt, or that the model does not have.",
            where=adapter.folder,
            found=unknown[0] + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""),
            expected=f"linear layers and embeddings of {base}",
            next_step=BY_PEFT,
        )
    model.update_modules(tree_unflatten(made))


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
    save_arrays(out / WEIGHTS["PEFT"], arrays)
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
