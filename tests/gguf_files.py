"""Small GGUF files of random models, written as llama.cpp's converters write them, by the `gguf` package."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

import gguf
import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 288, "rms_norm_eps": 1e-4, "rope_theta": 5e4,
    "max_position_embeddings": 1024, "tie_word_embeddings": True,
}  # fmt: skip
_WIDE = {"head_dim": 32}
_LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "llama 3": ("llama", "llama", {"tie_word_embeddings": False, "rope_theta": 5e5, "rope_scaling": _LLAMA3}),
    "llama with biases": ("llama", "llama", {"attention_bias": True}),
    "qwen2": ("qwen2", "qwen2", {"tie_word_embeddings": False}),
    "qwen3": ("qwen3", "qwen3", _WIDE),
    "qwen3moe": (
        "qwen3moe",
        "qwen3_moe",
        {
            "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1,
            "mlp_only_layers": [], "norm_topk_prob": True, "rope_scaling": {
                "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128
            },
        },
    ),
    "gemma": ("gemma", "gemma", _WIDE),
    "gemma2": (
        "gemma2",
        "gemma2",
        _WIDE
        | {"attn_logit_softcapping": 9.0, "final_logit_softcapping": 7.0, "query_pre_attn_scalar": 32},
    ),
    "gemma3": (
        "gemma3",
        "gemma3_text",
        _WIDE
        | {
            "query_pre_attn_scalar": 32, "sliding_window": 16, "sliding_window_pattern": 6,
            "rope_local_base_freq": 10000.0, "num_hidden_layers": 7,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
}  # fmt: skip
"""By a name: the architecture's name in a GGUF, mlx-lm's, and what its config has besides the sizes."""


def model(name: str, seed: int = 0) -> tuple[dict[str, Any], Any]:
    """A random model and its config; its norms and biases are random, too."""
    _, kind, more = MODELS[name]
    config = {"model_type": kind, **_SIZES, **more}
    arch = importlib.import_module(f"mlx_lm.models.{kind}")
    mx.random.seed(seed)
    made = arch.Model(arch.ModelArgs.from_dict(config))
    made.load_weights(
        [
            (path, 0.1 * mx.random.normal(array.shape) + ("norm" in path) * 0.5)
            for path, array in cast("list[tuple[str, mx.array]]", tree_flatten(made.parameters()))
        ]
    )
    mx.eval(made.parameters())
    return config, made


def write(path: Path, name: str, *, seed: int = 0, kind: Any = None, tokenizer: str = "gpt2") -> Any:
    """Write a random model; its large matrices are of a type of ``gguf``. Returns the model."""
    config, made = model(name, seed)
    arch = MODELS[name][0]
    writer = gguf.GGUFWriter(path, arch)
    _add_config(writer, config)
    (_add_spm if tokenizer == "llama" else _add_bpe)(writer, config["vocab_size"])
    number = gguf.MODEL_ARCH_NAMES
    names = gguf.get_tensor_name_map(
        next(key for key, value in number.items() if value == arch), config["num_hidden_layers"]
    )
    for own, array in tree_flatten(made.parameters()):
        weights = np.array(array)
        if own.endswith(("q_proj.weight", "q_proj.bias")) and arch == "llama":
            weights = _permuted(weights, config["num_attention_heads"])
        if own.endswith(("k_proj.weight", "k_proj.bias")) and arch == "llama":
            weights = _permuted(weights, config["num_key_value_heads"])
        if own.endswith("norm.weight") and arch.startswith("gemma"):
            weights = weights + 1
        called = names.get_name(own.replace("switch_mlp", "experts"), (".weight", ".bias"))
        assert called is not None, own
        if kind is None or weights.ndim == 1:
            writer.add_tensor(called, weights)
        else:
            writer.add_tensor(called, gguf.quantize(weights, kind), raw_dtype=kind)
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", _llama3_factors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def _permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    halves = weights.reshape(heads, 2, -1, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def _llama3_factors(config: dict[str, Any]) -> np.ndarray:
    found, scaling = [], config["rope_scaling"]
    for at in range(0, config["head_dim"], 2):
        wave = 2 * np.pi * config["rope_theta"] ** (at / config["head_dim"])
        old, factor = scaling["original_max_position_embeddings"], scaling["factor"]
        if wave < old / scaling["high_freq_factor"]:
            found.append(1.0)
        elif wave > old / scaling["low_freq_factor"]:
            found.append(factor)
        else:
            smooth = (old / wave - 1) / (scaling["high_freq_factor"] - 1)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, np.float32)


def _add_config(writer: Any, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if "num_experts" in config:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if "attn_logit_softcapping" in config:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if "sliding_window" in config:
        writer.add_sliding_window(config["sliding_window"])
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type") in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(scaling["rope_type"]))
        writer.add_rope_scaling_factor(scaling["factor"])
    if scaling.get("rope_type") == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    writer.add_chat_template(TEMPLATE)


def _add_bpe(writer: Any, size: int) -> None:
    """A byte-level vocabulary: two merges, tokens for thoughts, the template's special ones and Qwen's."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    texts = [*bytes_to_unicode().values(), "he", "hel", "<think>", "</think>"]
    kinds = [1] * (len(texts) - 2) + [4] * 2 + [3] * 3
    texts += ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    filler = size - len(texts)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*texts, *(f"[PAD{number}]" for number in range(filler))])
    writer.add_token_types([*kinds, *[5] * filler])
    writer.add_token_merges(["h e", "he l"])
    writer.add_bos_token_id(len(texts) - 2)
    writer.add_eos_token_id(len(texts) - 1)


def _add_spm(writer: Any, size: int) -> None:
    """SentencePiece's kind: bytes, two pieces with scores, and special tokens."""
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "▁h", "▁hi"]
    filler = size - len(texts)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*texts, *(f"[PAD{number}]" for number in range(filler))])
    writer.add_token_scores([0.0] * (len(texts) - 2) + [-1.0, -2.0] + [-9.0] * filler)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * 5, *[5] * filler])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
