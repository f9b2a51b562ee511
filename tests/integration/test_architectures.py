"""Small random models of several architectures under real chat templates: trained, quantized, evaluated."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import generate, load
from mlx_lm.utils import save_config, save_model

from tests.conftest import read_json
from tests.families import FOLDER, TALK, TOOLS, TRAINED, TYPES, assistant, tokenizer, user
from tests.processes import punie

COMMON: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "max_position_embeddings": 4096, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "qwen3_moe": {
        "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "moe_intermediate_size": 64, "norm_topk_prob": True,
    },
    "llama": {},
    "mistral3": {
        "text_config": {
            "model_type": "ministral3",
            "rope_parameters": {
                "rope_theta": 10000.0, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 4096,
            },
        }
    },
    "gemma4_text": {
        "global_head_dim": 64, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0,
        "sliding_window": 64, "sliding_window_pattern": 2, "use_double_wide_mlp": False,
    },
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64, "rope_scaling": None},
    "glm4": {"attention_bias": False, "partial_rotary_factor": 0.5},
    "lfm2": {
        "norm_eps": 1e-6, "conv_bias": False, "conv_L_cache": 3, "block_dim": 64, "block_ff_dim": 128,
        "block_multiple_of": 64, "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": False,
        "layer_types": ["conv", "full_attention"],
    },
}  # fmt: skip


def make_model(folder: Path, kind: str, template: str) -> None:
    """Write a random model with a real template."""
    loaded = tokenizer(FOLDER / f"{template}.jinja")
    loaded._tokenizer.save_pretrained(folder)
    sizes: dict[str, Any] = COMMON | {
        "vocab_size": -(-len(loaded) // 64) * 64,
        "eos_token_id": sorted(loaded.eos_token_ids),
    }
    config: dict[str, Any] = {"model_type": kind} | sizes | CONFIGS[kind]
    if "text_config" in config:
        config["text_config"] = sizes | config["text_config"]
    arch = importlib.import_module(f"mlx_lm.models.{kind}")
    mx.random.seed(3)
    model = arch.Model(arch.ModelArgs.from_dict(config))
    model.set_dtype(mx.bfloat16)
    save_model(folder, model)
    save_config(config, folder / "config.json")


def make_inputs(folder: Path) -> None:
    """Write rows with tools and calls, and a suite with tools of its own."""
    tools = [TOOLS[0].declaration]
    for split in ("train", "valid"):
        talks = [[user(f"Weather, {split}?"), assistant("", TYPES)], [user(f"Sum, {split}?"), *TALK[1:]]]
        rows = [json.dumps({"messages": talk, "tools": tools}) for talk in talks]
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    asks = {"id": "a", "category": "weather", "prompt": "Is it warm?", "expect": [{"tool": "get_weather"}]}
    chats = {"id": "b", "category": "none", "prompt": "Who are you?", "expect": []}
    items = [json.dumps({**each, "tools": tools}) for each in (asks, chats)]
    (folder / "suite.jsonl").write_text("\n".join(items))


BRIEFLY = {"mistral3", "gemma4_text", "gpt_oss", "lfm2"}
"""Those least like the embedded models; tests/unit/train/test_forward.py has the gradients of all."""
CASES = [
    *(pytest.param(*each, 2, id=f"{each[1]}-2") for each in TRAINED.items() if each[1] in BRIEFLY),
    *(pytest.param(*each, 30, id=f"{each[1]}-30", marks=pytest.mark.long) for each in TRAINED.items()),
]


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason="`make templates` fetches the templates")
@pytest.mark.parametrize(("template", "kind", "iters"), CASES)
def test_an_architecture_goes_through(tmp_path: Path, template: str, kind: str, iters: int) -> None:
    """Rows with calls train, the model is quantized and scored on a suite with its own tools; mlx-lm loads it
    and generates the same text twice."""
    make_model(tmp_path / "model", kind, template)
    make_inputs(tmp_path)
    done = punie(
        "model=local", "model.path=model", "data=jsonl", "data.path=.", "data.min_examples=1",
        f"lora.iters={iters}", f"lora.save_every={iters}", f"lora.steps_per_eval={iters}",
        "lora.val_batches=1", "lora.num_layers=-1", "lora.batch_size=1", "lora.grad_accumulation_steps=1",
        "lora.learning_rate=1e-3", "quantize.fidelity_rows=1", "eval.suite=suite.jsonl", "eval.max_tokens=4",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    run = tmp_path / done.run_directory
    assert set(read_json(run / "results.json")["scores"]["strict"]["categories"]) == {"weather", "none"}
    records = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["kind"] == "valid"]
    assert losses[-1] < losses[0]
    print(f"{kind}: validation loss {losses[0]:.2f} to {losses[-1]:.2f} in {iters} micro-batches")
    (folder,) = {path.parent for path in tmp_path.glob("outputs/store/quantize/*/**/config.json")}
    model, loaded = load(str(folder))[:2]
    texts = {generate(model, loaded, "Is it warm?", max_tokens=4) for _ in range(2)}
    assert len(texts) == 1
