"""Adapters as PEFT reads them: the same numbers, by PEFT's own formulas, and what it cannot hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from punie.model import fuse, peft
from punie.model.gguf.convert import convert
from punie.util.errors import PunieError
from tests import adapters

gguf_files = pytest.importorskip("tests.gguf_files", reason="needs punie[gguf]")


def base(folder: Path, name: str) -> Path:
    gguf_files.write(folder / "base.gguf", name, tokenizer="gpt2")
    (out := folder / "base").mkdir()
    convert(folder / "base.gguf", out, dtype="float32")
    return out


@pytest.mark.parametrize(
    ("name", "tuned"),
    [
        ("llama", {}),
        ("qwen2", {"fine_tune_type": "dora", "scale": 0.5}),
        ("qwen3", {"keys": ["self_attn.v_proj", "mlp.down_proj"], "rank": 3, "num_layers": 1}),
        ("llama 3", {"keys": ["self_attn.q_proj", "lm_head"]}),
        ("qwen3moe", {"keys": ["self_attn.q_proj", "self_attn.o_proj"]}),
    ],
)  # fmt: skip
def test_the_formulas_of_peft_give_the_fused_weights(
    tmp_path: Path, name: str, tuned: dict[str, Any]
) -> None:
    """W + alpha / r * B A is each fused weight, with DoRA's magnitudes over its norms; no other differs."""
    given = base(tmp_path, name)
    adapter = adapters.write(given, tmp_path / "adapter", **tuned)
    for each in ("fused", "peft"):
        (tmp_path / each).mkdir()
    fuse.fuse(given, adapter, tmp_path / "fused", base_key=adapters.KEY, bits=None, group_size=64)
    count = peft.write(given, adapter, tmp_path / "peft", base_key=adapters.KEY, base_name="me/base")
    config = json.loads((tmp_path / "peft/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "me/base"
    arrays = load_file(tmp_path / "peft/adapter_model.safetensors")
    plain, fused = (load_file(tmp_path / each / "model.safetensors") for each in ("base", "fused"))
    seen = set()
    for path, weight in plain.items():
        whole = f"base_model.model.{path.removesuffix('.weight')}"
        if f"{whole}.lora_A.weight" not in arrays:
            assert np.array_equal(fused[path], weight)
            continue
        a, b = (arrays[f"{whole}.lora_{each}.weight"] for each in "AB")
        tuned_weight = weight + config["lora_alpha"] / config["r"] * b @ a
        if config["use_dora"]:
            rows = arrays[f"{whole}.lora_magnitude_vector"] / np.linalg.norm(tuned_weight, axis=1)
            tuned_weight = rows[:, None] * tuned_weight
        assert np.allclose(fused[path], tuned_weight, rtol=0, atol=1e-5), path
        assert adapts(config, path.removesuffix(".weight"))
        seen.add(path)
    assert len(seen) == count > 0
    assert len(arrays) == count * (3 if config["use_dora"] else 2)
    assert {path for path in plain if adapts(config, path.removesuffix(".weight"))} == seen


def adapts(config: dict[str, Any], path: str) -> bool:
    """Whether PEFT adapts a layer, as its documents say."""
    if not any(path == each or path.endswith(f".{each}") for each in config["target_modules"]):
        return False
    return "layers_to_transform" not in config or int(path.split(".")[2]) in config["layers_to_transform"]


def quantized(folder: Path) -> None:
    """The base in 4 bits."""
    empty = adapters.write(folder, folder.parent / "empty", scale=0.0)
    (out := folder.parent / "quantized").mkdir()
    fuse.fuse(folder, empty, out, base_key=adapters.KEY, bits=4, group_size=64)
    folder.rename(folder.parent / "was")
    out.rename(folder)


@pytest.mark.parametrize(
    ("name", "change", "tuned", "words"),
    [
        ("llama", None, {"fine_tune_type": "full"}, "whole layers were trained"),
        ("qwen3moe", None, {}, "LoRASwitchLinear|mlp.gate"),
        ("llama", None, {"keys": ["model.embed_tokens"]}, "LoRAEmbedding on model.embed_tokens"),
        ("llama", quantized, {}, "quantized by MLX"),
    ],
)  # fmt: skip
def test_what_peft_cannot_hold_is_named(
    tmp_path: Path, name: str, change: Callable[[Path], None] | None, tuned: dict[str, Any], words: str
) -> None:
    """What is no LoRA on linear layers that transformers loads is refused before a file is written."""
    given = base(tmp_path, name)
    if change:
        change(given)
    adapter = adapters.write(given, tmp_path / "adapter", **tuned)
    (out := tmp_path / "out").mkdir()
    with pytest.raises(PunieError, match=words):
        peft.write(given, adapter, out, base_key=adapters.KEY, base_name="me/base")
    assert not list(out.iterdir())
