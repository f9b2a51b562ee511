"""Loads a model and its tokenizer; saves arrays, and computes their digests."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import dequantize_model, load_model, load_tokenizer
from transformers.utils import logging as transformers_logging

from punie.model import blas, resolve
from punie.model.resolve import ModelJson
from punie.util.errors import PunieError
from punie.util.jsonl import excerpt


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to compute."""

    model: nn.Module
    tokenizer: Any
    """mlx-lm's wrapper around a Hugging Face tokenizer."""
    config: ModelJson
    """The model's config.json."""


def tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a model folder, with its chat template.

    Raises:
        PunieError: It cannot be loaded, or has no chat template.
    """
    try:
        transformers_logging.set_verbosity_error()  # its warnings quote a file's content at any length
        # Without an answer here, transformers would ask at the terminal whether to run the folder's code.
        loaded = load_tokenizer(folder, {"trust_remote_code": False}, eos_token_ids=resolve.end_ids(folder))
    except Exception as error:  # of transformers, tokenizers or a parser
        raise PunieError(
            "The model's tokenizer cannot be loaded.",
            where=folder,
            found=_in_words(error),
            next_step="fetch or copy the model again; check its tokenizer.json and tokenizer_config.json",
        ) from error
    if not getattr(loaded, "has_chat_template", True) or loaded.chat_template is None:
        raise PunieError(
            "The model has no chat template.",
            where=folder,
            next_step="use an instruction-tuned model, or add chat_template.jinja to the folder",
        )
    return loaded


def load(
    folder: Path, *, adapter: Path | None = None, float32: bool = False, threads: int | None = None
) -> Loaded:
    """Load a model folder, and an adapter onto it.

    ``float32`` dequantizes and computes in float32: on a CPU, quantized and half-precision products are 50 to
    200 times slower (docs/decisions/0003-cpu-float32.md). ``threads`` None decides by the model's size.

    Raises:
        PunieError: mlx-lm cannot load it.
    """
    model, config = load_lazily(folder)
    if float32:
        dequantize_model(model)
        model.set_dtype(mx.float32)
    parameters = [cast(mx.array, array) for _, array in tree_flatten(model.parameters())]
    blas.set_threads(sum(array.size for array in parameters), threads)
    for array in parameters:  # one at a time: the packed weights of each are freed before the next
        mx.eval(array)
    if adapter is not None:
        model = load_adapters(model, str(adapter))
        mx.eval(model.parameters())
    model.eval()
    return Loaded(model, tokenizer(folder), config)


def load_lazily(folder: Path) -> tuple[nn.Module, ModelJson]:
    """A model of which no weight is read into memory yet, and its config."""
    try:
        return load_model(folder, lazy=True)
    except Exception as error:  # of mlx-lm or MLX
        raise PunieError(
            "Mlx-lm cannot load the model.",
            where=folder,
            found=_in_words(error),
            next_step="check that mlx-lm has its model_type, and that its files are whole",
        ) from error


def _in_words(error: Exception) -> str:
    return excerpt(f"{type(error).__name__}: {error}", 300)


def save_arrays(path: Path, arrays: dict[str, mx.array]) -> None:
    """Write arrays as a safetensors file.

    Raises:
        OSError: They cannot be written; mlx itself raises a RuntimeError.
    """
    try:
        mx.save_safetensors(str(path), arrays)
    except RuntimeError as error:
        size = sum(array.nbytes for array in arrays.values())
        full = shutil.disk_usage(path.parent).free < size
        code = errno.ENOSPC if full else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error


def digests(model: nn.Module) -> dict[str, str]:
    """sha256 of every parameter's type, shape and bytes, by name; the parameters must be evaluated."""
    found = {}
    for name, array in cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters())):
        about = f"{array.dtype} {tuple(array.shape)} ".encode()
        hashed = hashlib.sha256(about)
        hashed.update(memoryview(cast(Any, array.flatten().view(mx.uint8))))  # without a copy
        found[name] = hashed.hexdigest()
    return found
