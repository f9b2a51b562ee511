"""Random models of a few thousand parameters, of every kind the fuse meets, and adapters for them."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model, quantize_model, save_config, save_model

from punie.util.paths import resource

BASE_KEY = "b" * 64
COMMON = {
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-6,
    "vocab_size": 1024, "max_position_embeddings": 128, "rope_theta": 10000.0, "torch_dtype": "bfloat16",
    "eos_token_id": 2,
}  # fmt: skip
DENSE: dict[str, Any] = {
    "model_type": "qwen3", "hidden_size": 128, "intermediate_size": 192, "head_dim": 64,
    "tie_word_embeddings": False,
}  # fmt: skip
TIED = DENSE | {"tie_word_embeddings": True}
EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "moe_intermediate_size": 64, "norm_topk_prob": True,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "dense": DENSE,
    "tied": TIED,
    "biased": {key: value for key, value in TIED.items() if key != "head_dim"} | {"model_type": "qwen2"},
    "moe": TIED | {"model_type": "qwen3_moe"} | EXPERTS,
}


def shape_of(kind: str, **changes: Any) -> nn.Module:
    """A model of a kind, with random weights that are not drawn yet."""
    config = COMMON | KINDS[kind] | changes
    arch = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    return arch.Model(arch.ModelArgs.from_dict(config))


def make_base(
    folder: Path, kind: str, *, bits: int | None = 4, dtype: mx.Dtype = mx.bfloat16, **changes: Any
) -> Path:
    """Write a random base model, with the embedded model's tokenizer."""
    mx.random.seed(3)
    model = shape_of(kind, **changes)
    model.update(tree_map(lambda a: mx.random.normal(a.shape, scale=0.05), model.parameters()))
    model.set_dtype(dtype)
    config: dict[str, Any] = COMMON | KINDS[kind] | changes
    if bits is not None:
        model, config = quantize_model(model, config, 64, bits)
    folder.mkdir(parents=True)
    save_model(folder, model)
    save_config(config, folder / "config.json")
    for path in resource("data/models/tiny").glob("*token*"):
        shutil.copyfile(path, folder / path.name)
    shutil.copyfile(resource("data/models/tiny/chat_template.jinja"), folder / "chat_template.jinja")
    return folder


def make_adapter(
    folder: Path, base: Path, *, kind: str = "lora", layers: int = 2, rank: int = 4, keys: Any = None
) -> Path:
    """Write an adapter with random deltas, as large as the weights, for a base model."""
    mx.random.seed(5)
    model, _ = load_model(base, lazy=True)
    model.freeze()
    parameters = {"rank": rank, "scale": 20.0, "dropout": 0.0} | ({"keys": keys} if keys else {})
    if kind == "full":
        model.layers[-1].unfreeze()
    else:
        linear_to_lora_layers(model, layers, parameters, use_dora=kind == "dora")
    model.update(tree_map(lambda a: a + mx.random.normal(a.shape, scale=0.02), model.trainable_parameters()))
    folder.mkdir(parents=True)
    mx.save_safetensors(
        str(folder / "adapters.safetensors"),
        dict(cast(list[tuple[str, mx.array]], tree_flatten(model.trainable_parameters()))),
    )
    config = {
        "fine_tune_type": kind,
        "num_layers": layers,
        "lora_parameters": parameters,
        "base_key": BASE_KEY,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def tensors(folder: Path) -> dict[str, mx.array]:
    """Every tensor of a model folder."""
    found: dict[str, mx.array] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        found |= cast(dict[str, mx.array], mx.load(str(path)))
    return found
