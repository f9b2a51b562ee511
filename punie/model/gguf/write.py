"""Writes a base and its adapter as a GGUF file, by the reader's tables.

The header is written first and read again: if the reader finds another model or another tokenizer, no weight
is computed. It also says where in the file each weight belongs, in what order, and by how much it is shifted.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx_lm.utils import MODEL_REMAPPING

from punie.model import blas, fuse, load
from punie.model.folders import ModelJson
from punie.model.gguf import architecture, rope, tokenizer_fields
from punie.model.gguf.file import Metadata, Refused, library, read
from punie.model.gguf.weights import Weight, stored
from punie.model.layout import Layout, adapted, lay_out
from punie.util.errors import PunieError
from punie.util.files import disk_shortage, flush
from punie.util.jsonl import excerpt

TYPES = {"f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
"""Types of the large matrices, and llama.cpp's name for such a file."""
_LARGEST_F16 = 65504.0
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_ROPE = "rope_freqs.weight"
_IGNORED = {"model_type", "rope_parameters"}
"""Options of mlx-lm's models that are another name of others."""


def write(
    base: Path, adapter: Path, out: Path, *, base_key: str, name: str, kind: str, pre: str | None = None
) -> Mapping[str, int]:
    """Write the sum of base and adapter, computed in float32, to a new GGUF file.

    ``base_key`` is as for ``fuse.fuse``; ``name`` is the model's, for people; ``kind`` is one of ``TYPES``;
    ``pre`` is as for ``tokenizer_fields.fields``. Memory is that of a layer.

    Returns:
        How many tensors have which type.

    Raises:
        Refused: llama.cpp has no such architecture, option or tokenizer; found before a weight is computed.
        PunieError: Base and adapter do not fit, the disk is too small, or a weight is too large for float16.
    """
    gguf = library()
    blas.set_threads(0)  # as for fuse.fuse
    model, plain = adapted(base, adapter, base_key=base_key)
    options = type(cast(Any, model).args)
    model.set_dtype(mx.float32)
    plain = plain | {"torch_dtype": "float32"}
    layout = lay_out(model, plain, bits=None, group_size=64, recipe=None)
    arch, config = _stated(layout, options)
    own = _names(layout, arch, config)
    types = gguf.GGMLQuantizationType
    tensors = {
        own[each.name]: (each.shape, _type(types[kind.upper()], each, types)) for each in layout.tensors
    }
    fields = {
        "general.type": "model",
        "general.name": name,
        "general.file_type": int(gguf.LlamaFileType[TYPES[kind]]),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **architecture.stated(arch, config),
        **tokenizer_fields.fields(load.tokenizer(base), config["vocab_size"], pre=pre),
    }
    factors = _rope(config)
    tensors |= {} if factors is None else {_ROPE: (factors.shape, types.F32)}
    _write_header(out, arch, fields, tensors)
    file = read(out)
    if factors is not None:
        stored(out, Weight("", file.tensors[_ROPE]), "r+")[0][:] = factors.view(np.uint8)
    back = architecture.config(file)
    _require_same(options, config, back)
    places = {each.name: each for each in architecture.weights(file, back)}
    filled = Counter[str]()
    for inner, words in fuse.computed(layout):
        place = places[inner]
        rows, order = stored(out, place, "r+")
        values = np.asarray(memoryview(cast(Any, words))).view(np.float32) - np.float32(place.shift)
        packed = _packed(values, place, len(rows))
        start, end = filled[inner], filled[inner] + len(packed)
        rows[slice(start, end) if order is None else order[start:end]] = packed
        filled[inner] = end
    flush(out)
    return Counter(kind.name for _, kind in tensors.values())


def _stated(layout: Layout, options: Any) -> tuple[str, ModelJson]:
    """The architecture's name in a GGUF, and the config with what mlx-lm adds to it.

    Raises:
        Refused: There is no such architecture.
    """
    config, held = layout.config, {each.name for each in layout.tensors}
    kind = MODEL_REMAPPING.get(config["model_type"], config["model_type"])
    for arch, known in architecture.ARCHITECTURES.items():
        if known.model_type == kind:
            given = {**config, **_options(options, config)}
            return arch, {
                "head_dim": config["hidden_size"] // config["num_attention_heads"],
                **{key: value for key, value in given.items() if value is not None},
                "tie_word_embeddings": "lm_head.weight" not in held,
                "attention_bias": "model.layers.0.self_attn.o_proj.bias" in held,
            }
    raise Refused(
        "punie writes no GGUF of this architecture.",
        where="config.json, model_type",
        found=excerpt(config["model_type"]),
        expected=", ".join(known.model_type for known in architecture.ARCHITECTURES.values()),
        next_step="llama.cpp's convert_hf_to_gguf.py may: export --to mlx of a run with quantize=none",
    )


def _options(options: Any, config: ModelJson) -> dict[str, Any]:
    """What mlx-lm's ``ModelArgs`` make of a config: the options with which it computes the model."""
    return {key: value for key, value in vars(options.from_dict(config)).items() if key not in _IGNORED}


def _names(layout: Layout, arch: str, config: ModelJson) -> dict[str, str]:
    """The name in a GGUF of each tensor.

    Raises:
        Refused: One has none.
    """
    parts, outer = architecture.names(architecture.ARCHITECTURES[arch], config)
    inside = {own: part for part, (own, _) in parts.items()}
    found = {own: name for name, (own, _) in outer.items()}
    for name in (each.name for each in layout.tensors):
        if (layer := _LAYER.fullmatch(name)) and layer[2] in inside:
            found[name] = f"blk.{layer[1]}.{inside[layer[2]]}"
    if unknown := [each.name for each in layout.tensors if each.name not in found]:
        raise Refused(
            "A GGUF file of this architecture has no place for a tensor of the model.",
            where=arch,
            found=f"{unknown[0]}, one of {len(unknown)}",
        )
    return found


def _type(kind: Any, tensor: Any, types: Any) -> Any:
    """The type of a tensor: llama.cpp wants norms, biases and routers in float32, and 32 weights a block."""
    if len(tensor.shape) == 1 or tensor.name.endswith("mlp.gate.weight"):
        return types.F32
    return types.F16 if kind is types.Q8_0 and tensor.shape[-1] % 32 else kind


def _rope(config: ModelJson) -> np.ndarray | None:
    """The factors to which Llama 3's scaling of rope leads, which a GGUF holds in its place."""
    scaling = rope.scaled(config)
    if scaling is None or scaling["rope_type"] != "llama3":
        return None
    factors = rope.llama3_factors(config["head_dim"] // 2, config["rope_theta"], scaling["factor"])
    return factors.astype(np.float32)


def _write_header(out: Path, arch: str, fields: Metadata, tensors: Mapping[str, tuple[Any, Any]]) -> None:
    """Write all but the weights, for which the file has room.

    Raises:
        PunieError: The disk has not.
    """
    gguf = library()
    kinds = gguf.GGUFValueType
    writer = gguf.GGUFWriter(out, arch)
    for key, value in fields.items():
        kind = kinds.get_type(value)
        writer.add_key_value(key, value, kinds.UINT32 if kind is kinds.INT32 else kind)
    room = 0
    for name, (shape, kind) in tensors.items():
        block, size = gguf.GGML_QUANT_SIZES[kind]
        nbytes = int(np.prod(shape)) // block * size
        writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, raw_dtype=kind)
        room += gguf.GGUFWriter.ggml_pad(nbytes, writer.data_alignment)
    if short := disk_shortage(out.parent, room, "the GGUF file"):
        raise short
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    start = gguf.GGUFWriter.ggml_pad(out.stat().st_size, writer.data_alignment)
    os.truncate(out, start + room)


def _require_same(options: Any, config: ModelJson, back: ModelJson) -> None:
    """Refuse a model that mlx-lm would compute otherwise if it came from the file."""

    def plain(given: ModelJson) -> dict[str, Any]:
        found = _options(options, given)
        return found | ({"rope_scaling": rope.scaled(given)} if "rope_scaling" in found else {})

    own, read_back = plain(config), plain(back)
    wrong = [f"{key}={value!r}" for key, value in own.items() if not _equal(value, read_back[key])]
    if wrong:
        raise Refused(
            "A GGUF file of this architecture cannot say how the model computes.",
            where="config.json",
            found=excerpt(", ".join(wrong), 300),
            expected=excerpt(
                ", ".join(f"{key.partition('=')[0]}={read_back[key.partition('=')[0]]!r}" for key in wrong),
                300,
            ),
        )


def _equal(one: Any, other: Any) -> bool:
    """Whether two options are the same; None is the other's value, which mlx-lm derives."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, float) or isinstance(other, float):
        return bool(np.float32(one) == np.float32(other))
    return one is None or one == other


def _packed(values: np.ndarray, place: Weight, rows: int) -> np.ndarray:
    """Weights as the bytes of their type, by row of the tensor.

    Raises:
        PunieError: A weight is too large for float16.
    """
    gguf, kind = library(), place.source.kind
    largest = float(np.abs(values).max(initial=0.0))
    scaled = largest / 127 if kind is gguf.GGMLQuantizationType.Q8_0 else largest
    if kind.name in ("F16", "Q8_0") and scaled > _LARGEST_F16:
        raise PunieError(
            "A weight is too large for float16, which ends at 65,504.",
            where=place.name,
            found=f"{largest:g}",
            next_step="--type bf16",
        )
    row = place.source.size // rows
    width = place.source.shape[-1] if len(place.source.shape) > 1 or not place.interleaved_heads else 1
    return gguf.quantize(values.reshape(-1, width), kind).view(np.uint8).reshape(-1, row)
