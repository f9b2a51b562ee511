"""Loads a model and its tokenizer; saves arrays, and computes their digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import dequantize_model, get_total_parameters, load_model, load_tokenizer
from transformers.utils import logging as transformers_logging

from punie.model import blas, folders, shards
from punie.model.folders import ModelJson
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
        options = {"trust_remote_code": False}
        # It treats models of the hub apart by name, for which it would take a relative path.
        loaded = load_tokenizer(folder.absolute(), options, eos_token_ids=folders.end_ids(folder))
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
    """A model of which no weight is read into memory yet, and its config.

    Raises:
        PunieError: mlx-lm cannot load it.
    """
    try:
        with _own_weights(folder) as whole:
            return load_model(whole, lazy=True)
    except Exception as error:  # of mlx-lm or MLX
        raise PunieError(
            "Mlx-lm cannot load the model.",
            where=folder,
            found=_in_words(error),
            next_step="check that mlx-lm has its model_type, and that its files are whole",
        ) from error


@contextlib.contextmanager
def _own_weights(folder: Path) -> Generator[Path]:
    """A folder in which mlx-lm, which reads every ``model*.safetensors``, finds the model's own weights only.

    MLX opens a file when it is named, and reads it later.
    """
    files = folders.weight_files(folder)
    if set(files) == set(folder.glob("model*.safetensors")):
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        links = {f"model-{number}.safetensors": path for number, path in enumerate(files)}
        links |= {path.name: path for path in folder.glob("*.json")}
        for name, path in links.items():
            (Path(scratch) / name).symlink_to(path.absolute())
        yield Path(scratch)


def unread(folder: Path, model: Any) -> dict[str, int]:
    """Parameters of a folder that are not in the model mlx-lm loads from it, by part: a vision tower, say.

    A part is not read if mlx-lm's ``sanitize`` gives the same tensors without it.
    """
    stored = shards.sizes(folder)
    if not hasattr(model, "sanitize") or sum(stored.values()) == get_total_parameters(model):
        return {}
    arrays: dict[str, mx.array] = {}
    for path in folders.weight_files(folder):
        arrays |= cast("dict[str, mx.array]", mx.load(str(path)))
    parts: dict[str, dict[str, int]] = {}
    for name, size in stored.items():
        first, *rest = name.rpartition(".")[0].split(".")
        parts.setdefault(".".join([first, *rest[:1]]), {})[name] = size
    parts = {part: inside for part, inside in parts.items() if not part.endswith(("layers", "blocks"))}

    def kept(left_out: Collection[str]) -> set[str]:
        return set(model.sanitize({name: array for name, array in arrays.items() if name not in left_out}))

    found = {}
    for part, inside in parts.items():
        try:
            unchanged = kept(inside) == kept(())
        except Exception:  # noqa: S112 - whatever mlx-lm raises where it misses a tensor: it reads the part
            continue
        if unchanged:
            found[part] = sum(inside.values())
    return found


def _in_words(error: Exception) -> str:
    return excerpt(f"{type(error).__name__}: {error}", 300)


def save_arrays(path: Path, arrays: dict[str, mx.array]) -> None:
    """Write arrays as a safetensors file, with the permissions of the umask.

    Raises:
        OSError: They cannot be written; mlx itself raises a RuntimeError.
    """
    path.touch()  # mlx would let nobody else write a new file
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
