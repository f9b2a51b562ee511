"""Architectures: which tensors of a GGUF are which of a model, and the config.json that its metadata states.

The tensors' names and the metadata's fields are those of llama.cpp's converters.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from punie.model.folders import ModelJson
from punie.model.gguf import rope
from punie.model.gguf.file import File, Metadata, Refused
from punie.model.gguf.weights import Weight, require_readable
from punie.util.jsonl import excerpt

_BLOCK = re.compile(r"blk\.(?P<number>\d{1,5})\.(?P<part>\w+\.(?:weight|bias))", re.ASCII)
_LARGEST = 1 << 31

Parts = Mapping[str, tuple[str, str]]
"""By a tensor's name within its block: its name within a layer of the model, and its extents."""

_ATTENTION: Parts = {
    "attn_norm.weight": ("input_layernorm.weight", "hidden"),
    "attn_q.weight": ("self_attn.q_proj.weight", "q hidden"),
    "attn_k.weight": ("self_attn.k_proj.weight", "kv hidden"),
    "attn_v.weight": ("self_attn.v_proj.weight", "kv hidden"),
    "attn_output.weight": ("self_attn.o_proj.weight", "hidden q"),
}
_BIASES: Parts = {
    "attn_q.bias": ("self_attn.q_proj.bias", "q"),
    "attn_k.bias": ("self_attn.k_proj.bias", "kv"),
    "attn_v.bias": ("self_attn.v_proj.bias", "kv"),
}
_HEAD_NORMS: Parts = {
    "attn_q_norm.weight": ("self_attn.q_norm.weight", "head"),
    "attn_k_norm.weight": ("self_attn.k_norm.weight", "head"),
}
_NORM: Parts = {"ffn_norm.weight": ("post_attention_layernorm.weight", "hidden")}
_GEMMA_NORMS: Parts = {
    "post_attention_norm.weight": ("post_attention_layernorm.weight", "hidden"),
    "ffn_norm.weight": ("pre_feedforward_layernorm.weight", "hidden"),
    "post_ffw_norm.weight": ("post_feedforward_layernorm.weight", "hidden"),
}
_MLP: Parts = {
    "ffn_gate.weight": ("mlp.gate_proj.weight", "inner hidden"),
    "ffn_up.weight": ("mlp.up_proj.weight", "inner hidden"),
    "ffn_down.weight": ("mlp.down_proj.weight", "hidden inner"),
}
_EXPERTS: Parts = {
    "ffn_gate_inp.weight": ("mlp.gate.weight", "experts hidden"),
    "ffn_gate_exps.weight": ("mlp.switch_mlp.gate_proj.weight", "experts inner hidden"),
    "ffn_up_exps.weight": ("mlp.switch_mlp.up_proj.weight", "experts inner hidden"),
    "ffn_down_exps.weight": ("mlp.switch_mlp.down_proj.weight", "experts hidden inner"),
}
_OUTER: Parts = {
    "token_embd.weight": ("model.embed_tokens.weight", "vocabulary hidden"),
    "output_norm.weight": ("model.norm.weight", "hidden"),
    "output.weight": ("lm_head.weight", "vocabulary hidden"),
}


@dataclass(frozen=True)
class Number:
    """A number of config.json, and the field of the metadata that holds it."""

    field: str
    """Its name after the architecture's."""
    default: float | None = None
    """What it is where the field is missing."""
    whole: bool = True
    """It is an integer."""


Stated = Mapping[str, Any]
"""By key of config.json: a ``Number``, a function of the ``Fields``, or what all models have."""


@dataclass(frozen=True)
class Architecture:
    """How the models of an architecture are written, and so, how they are read."""

    model_type: str
    """mlx-lm's name."""
    parts: Parts
    more: Stated = dataclasses.field(default_factory=dict)
    """What only this architecture has in config.json."""
    interleaved: bool = False
    """The rows of q and k are in the order that llama.cpp's rope wants: pairs, where the model has halves."""
    shifted: bool = False
    """The weights of norms are larger by 1, which the model adds when it computes."""


@dataclass
class Fields:
    """The metadata of an architecture."""

    metadata: Metadata
    prefix: str

    def number(self, name: str, default: float | None = None) -> Any:
        """A positive number.

        Raises:
            Refused: It is missing, or no such number.
        """
        found = self.metadata.get(f"{self.prefix}.{name}", default)
        valid = type(found) in (int, float) and math.isfinite(found) and 0 < found < _LARGEST
        if not valid:
            raise Refused(
                "The GGUF file does not describe its model.",
                where=f"{self.prefix}.{name}",
                found=excerpt(found),
                expected="a positive number",
            )
        return float(str(np.float32(found))) if isinstance(found, float) else found

    def extent(self, name: str, default: int | None = None) -> int:
        """A positive integer."""
        found = self.number(name, default)
        if type(found) is not int:
            raise Refused(
                "The GGUF file does not describe its model.",
                where=f"{self.prefix}.{name}",
                found=excerpt(found),
                expected="an integer",
            )
        return found

    def stated(self, given: Stated) -> ModelJson:
        """What the fields say, by key of config.json."""
        return {key: self._value(each) for key, each in given.items()}

    def _value(self, given: Any) -> Any:
        if isinstance(given, Number):
            return (self.extent if given.whole else self.number)(given.field, given.default)
        return given(self) if callable(given) else given


def _query_scalar(layers: int) -> Callable[[Fields], float]:
    """What queries are divided by the root of: of the largest model the width per head, else the head's.

    No field holds it; llama.cpp, too, knows it by the number of layers.
    """

    def read(fields: Fields) -> float:
        if fields.extent("block_count") == layers:
            return fields.extent("embedding_length") / fields.extent("attention.head_count")
        return fields.extent("attention.key_length")

    return read


_SIZES: Stated = {
    "hidden_size": Number("embedding_length"),
    "intermediate_size": Number("feed_forward_length"),
    "num_hidden_layers": Number("block_count"),
    "num_attention_heads": Number("attention.head_count"),
}
_HEADS: Stated = {
    "num_key_value_heads": Number("attention.head_count_kv"),
    "head_dim": Number("attention.key_length"),
}
_COMMON: Stated = {
    "max_position_embeddings": Number("context_length"),
    "rms_norm_eps": Number("attention.layer_norm_rms_epsilon", whole=False),
    "rope_theta": Number("rope.freq_base", 10000.0, whole=False),
}
_MOE: Stated = {
    "num_experts": Number("expert_count"),
    "num_experts_per_tok": Number("expert_used_count"),
    "moe_intermediate_size": Number("expert_feed_forward_length"),
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
_GEMMA2: Stated = {
    "attn_logit_softcapping": Number("attn_logit_softcapping", 50.0, whole=False),
    "final_logit_softcapping": Number("final_logit_softcapping", 30.0, whole=False),
    "query_pre_attn_scalar": _query_scalar(46),
    "sliding_window": Number("attention.sliding_window", 4096),
}
_GEMMA3: Stated = {
    "query_pre_attn_scalar": _query_scalar(62),
    "sliding_window": Number("attention.sliding_window"),
    "sliding_window_pattern": Number("attention.sliding_window_pattern", 6),
    "rope_local_base_freq": Number("rope.freq_base_swa", 10000.0, whole=False),
}
ARCHITECTURES = {
    "llama": Architecture("llama", {**_ATTENTION, **_NORM, **_MLP}, interleaved=True),
    "qwen2": Architecture("qwen2", {**_ATTENTION, **_BIASES, **_NORM, **_MLP}),
    "qwen3": Architecture("qwen3", {**_ATTENTION, **_HEAD_NORMS, **_NORM, **_MLP}),
    "qwen3moe": Architecture("qwen3_moe", {**_ATTENTION, **_HEAD_NORMS, **_NORM, **_EXPERTS}, _MOE),
    "gemma": Architecture("gemma", {**_ATTENTION, **_NORM, **_MLP}, shifted=True),
    "gemma2": Architecture("gemma2", {**_ATTENTION, **_GEMMA_NORMS, **_MLP}, _GEMMA2, shifted=True),
    "gemma3": Architecture(
        "gemma3_text", {**_ATTENTION, **_HEAD_NORMS, **_GEMMA_NORMS, **_MLP}, _GEMMA3, shifted=True
    ),
}
"""By the name in general.architecture."""


def architecture(metadata: Metadata) -> tuple[Architecture, Fields]:
    """The architecture of a file, and its fields.

    Raises:
        Refused: It is none that punie reads.
    """
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise Refused(
            "The GGUF file is of an architecture that punie does not read.",
            where="general.architecture",
            found=excerpt(name),
            expected=", ".join(ARCHITECTURES),
            next_step="give the model's folder with safetensors files, as mlx-lm reads it",
        )
    return ARCHITECTURES[name], Fields(metadata, name)


def config(file: File, *, dtype: str = "float32") -> ModelJson:
    """The config.json of a file; ``dtype`` is that of the weights in the model folder.

    Raises:
        Refused: The architecture is none that punie reads, or a field is missing or wrong.
    """
    kind, fields = architecture(file.metadata)
    hidden, heads = fields.extent("embedding_length"), fields.extent("attention.head_count")
    embedding = file.tensors.get("token_embd.weight")
    defaults = {"num_key_value_heads": heads, "head_dim": hidden // heads}
    found: ModelJson = {
        "model_type": kind.model_type,
        **fields.stated(_SIZES),
        **{key: fields.extent(each.field, defaults[key]) for key, each in _HEADS.items()},
        "vocab_size": embedding.shape[0] if embedding else 0,
        **fields.stated(_COMMON),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "torch_dtype": dtype,
        **fields.stated(kind.more),
    }
    if "attn_q.bias" not in kind.parts and "blk.0.attn_q.bias" in file.tensors:
        found["attention_bias"] = True
    if scaling := rope.read(file, fields, found):
        found["rope_scaling"] = scaling
    _require_plain(fields, found)
    return found


def stated(name: str, config: ModelJson) -> dict[str, Any]:
    """The metadata of an architecture that say what a config.json says; ``config`` undoes it."""
    numbers = {**_SIZES, **_HEADS, **_COMMON, **ARCHITECTURES[name].more}
    found = {
        f"{name}.{each.field}": (int if each.whole else float)(config[key])
        for key, each in numbers.items()
        if isinstance(each, Number) and config.get(key) is not None
    }
    for field in ("rope.dimension_count", "attention.value_length"):
        found[f"{name}.{field}"] = config["head_dim"]
    scaling = rope.scaled(config)
    if scaling and scaling["rope_type"] in rope.SCALINGS:
        found[f"{name}.rope.scaling.type"] = scaling["rope_type"]
        for key, field in rope.FIELDS.items():
            found |= {f"{name}.rope.scaling.{field}": scaling[key]} if key in scaling else {}
    return found


def names(kind: Architecture, config: ModelJson) -> tuple[Parts, Parts]:
    """The tensors of a block, and those outside of the blocks."""
    parts, outer = dict(kind.parts), dict(_OUTER)
    if config.get("attention_bias"):
        parts |= {**_BIASES, "attn_output.bias": ("self_attn.o_proj.bias", "hidden")}
    if config["tie_word_embeddings"]:
        del outer["output.weight"]
    return parts, outer


def weights(file: File, stated: ModelJson) -> list[Weight]:
    """Every tensor of the model, in the file's order.

    Raises:
        Refused: Tensors are missing, are unknown, or do not have the extents that the metadata states.
    """
    kind, _ = architecture(file.metadata)
    extents = {
        "hidden": stated["hidden_size"],
        "inner": stated.get("moe_intermediate_size", stated["intermediate_size"]),
        "experts": stated.get("num_experts", 0),
        "head": stated["head_dim"],
        "q": stated["num_attention_heads"] * stated["head_dim"],
        "kv": stated["num_key_value_heads"] * stated["head_dim"],
        "vocabulary": stated["vocab_size"],
    }
    parts, outer = names(kind, stated)
    used = {name for name in file.tensors if name != "rope_freqs.weight"}
    numbers = {int(each["number"]) for name in used if (each := _BLOCK.fullmatch(name))}
    missing = [name for name in outer if name not in used]
    missing += [
        f"blk.{number}.{part}"
        for number in sorted(numbers | {0, stated["num_hidden_layers"] - 1})
        for part in parts
        if f"blk.{number}.{part}" not in used
    ]
    if missing or numbers != set(range(stated["num_hidden_layers"])):
        raise Refused(
            "The GGUF file lacks tensors of its model.",
            where=file.path,
            found="no " + _listed(missing) if missing else f"{len(numbers)} blocks",
            expected=f"{stated['num_hidden_layers']} blocks of {len(parts)} tensors ({kind.model_type})",
        )
    found: list[Weight] = []
    unknown: list[str] = []
    for name in (name for name in file.tensors if name in used):
        tensor, block = file.tensors[name], _BLOCK.fullmatch(name)
        if block and block["part"] in parts:
            inner, shape = parts[block["part"]]
            own, part = f"model.layers.{int(block['number'])}.{inner}", block["part"]
        elif name in outer:
            (own, shape), part = outer[name], name
        else:
            unknown.append(name)
            continue
        expected = tuple(extents[each] for each in shape.split())
        if tensor.shape != expected:
            raise Refused(
                "A tensor of the GGUF file does not fit its metadata.",
                where=f"{file.path}: {name}",
                found=f"shape {tensor.shape}",
                expected=expected,
            )
        turned = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(
            part.partition(".")[0]
        )
        found.append(
            Weight(
                own,
                tensor,
                interleaved_heads=stated[turned] if turned and kind.interleaved else 0,
                shift=-1.0 if kind.shifted and "norm" in part else 0.0,
            )
        )
    if unknown:
        raise Refused(
            "The GGUF file has tensors that are not of its architecture.",
            where=file.path,
            found=_listed(unknown),
            expected=f"those of {kind.model_type}",
        )
    require_readable(found)
    return found


def _require_plain(fields: Fields, stated: ModelJson) -> None:
    """Refuse what the model's implementation in mlx-lm has no option for."""
    head = stated["head_dim"]
    wrong = {
        "rope.dimension_count": (fields.extent("rope.dimension_count", head), head),
        "attention.value_length": (fields.extent("attention.value_length", head), head),
        "attention.head_count_kv": (stated["num_attention_heads"] % stated["num_key_value_heads"], 0),
    }
    if fields.prefix == "qwen2":
        wrong["attention.key_length"] = (head * stated["num_attention_heads"], stated["hidden_size"])
    if "num_experts" not in stated:
        wrong["expert_count"] = (fields.metadata.get(f"{fields.prefix}.expert_count", 0), 0)
    for name, (found, expected) in wrong.items():
        if found != expected:
            raise Refused(
                "The GGUF file's model is none that mlx-lm computes.",
                where=f"{fields.prefix}.{name}",
                found=excerpt(found),
                expected=expected,
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(excerpt(name) for name in names[:3]) + more
