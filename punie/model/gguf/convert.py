"""Writes a model folder from a GGUF file, tensor by tensor."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np

from punie.model.gguf import architecture, tokenizer, weights
from punie.model.gguf.file import Refused, library, read
from punie.model.shards import Tensor, Writer
from punie.util.files import disk_shortage
from punie.util.jsonl import excerpt

_FILE_BYTES = 5_000_000_000
_NAMES = {"float32": "F32", "bfloat16": "BF16"}


def convert(path: Path, out: Path, *, dtype: str) -> dict[str, Any]:
    """Write the model of a GGUF file into a folder that ``mlx_lm.load`` reads, its weights in floating point.

    ``dtype`` is float32, or bfloat16, which rounds. Memory is that of a piece of ``weights.PIECE`` weights.

    Returns:
        ``parameters`` and ``architecture``.

    Raises:
        Refused: The file is damaged, or of a kind that punie does not read; found before weights are written,
            but for weights that are not finite.
        PunieError: The disk is too small.
    """
    file = read(path)
    stated = architecture.config(file, dtype=dtype)
    found = architecture.weights(file, stated)
    parts = tokenizer.files(file.metadata, stated["vocab_size"])
    _require_loadable(path, parts["tokenizer.json"])
    planned = [Tensor(each.name, _NAMES[dtype], each.source.shape) for each in found]
    writer = Writer(out, planned, _FILE_BYTES)
    if short := disk_shortage(out, writer.total_bytes, "the converted model"):
        raise short
    writer.create()
    gguf = library()
    for weight in found:
        for piece in weights.values(path, weight):
            if dtype == "bfloat16":
                piece = gguf.quantize(piece, gguf.GGMLQuantizationType.BF16)
            writer.write(weight.name, memoryview(cast(Any, np.ascontiguousarray(piece))))
    parameters = sum(math.prod(each.source.shape) for each in found)
    writer.finish(parameters)
    for name, value in {"config.json": stated, **parts}.items():
        (out / name).write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return {"parameters": parameters, "architecture": stated["model_type"]}


def _require_loadable(path: Path, built: tokenizer.Json) -> None:
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_str(json.dumps(built, ensure_ascii=False))
    except Exception as error:  # of tokenizers, which raises no class of its own
        raise Refused(
            "The tokenizer of the GGUF file is damaged.", where=path, found=excerpt(str(error))
        ) from None
