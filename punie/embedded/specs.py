"""The dimensions of the embedded models, and the recipe that each is trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Control tokens of the tokenizer; the first is the padding, the last ends a turn."""


@dataclass(frozen=True)
class Spec:
    """What an embedded model is built from, besides its seed."""

    context: ClassVar[int] = 2048
    """Longest sequence, in tokens."""

    name: str
    """Its folder under ``data/models``."""
    model_type: str
    """``qwen3_moe`` or ``qwen3``: the architecture, as ``config.json`` names it."""
    hidden: int = 128
    """Width of the residual stream; a multiple of 64, so that groups of 64 can be quantized."""
    layers: int = 4
    """Decoder layers."""
    heads: int = 4
    """Query heads."""
    kv_heads: int = 2
    """Key and value heads."""
    head_dim: int = 32
    """Width of a head."""
    intermediate: int = 256
    """Width of the feed-forward block: of all active experts of a token together."""
    experts: int = 4
    """Experts per layer; a dense model has none."""
    active_experts: int = 2
    """Experts that each token is sent to."""
    vocabulary: int = 1024
    """Tokens, special ones included."""
    steps: int = 2200
    """Optimizer steps."""
    batch_tokens: int = 2048
    """Most tokens per step, padding included."""
    learning_rate: float = 4e-3
    """Of embeddings, norms and gates, at the peak of the schedule: linear warm-up, then cosine to 2 %."""
    matrix_learning_rate: float = 0.02
    """Of the matrices inside the layers, at the same peak."""
    warmup: int = 200
    """Steps of the warm-up."""
    novel: float = 0.5
    """Share of names in the corpus that are made up, which have to be copied."""

    def config(self) -> dict[str, object]:
        """The model's ``config.json``."""
        sparse: dict[str, object] = {
            "num_experts": self.experts,
            "num_experts_per_tok": self.active_experts,
            "moe_intermediate_size": self.intermediate // self.active_experts,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "norm_topk_prob": True,
        }
        is_sparse = self.model_type == "qwen3_moe"
        return {
            "architectures": ["Qwen3MoeForCausalLM" if is_sparse else "Qwen3ForCausalLM"],
            "model_type": self.model_type,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.intermediate,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
        } | (sparse if is_sparse else {})


SPECS = {spec.name: spec for spec in (Spec("tiny", "qwen3_moe"), Spec("tiny_dense", "qwen3"))}
"""The models that can be built, by name."""
