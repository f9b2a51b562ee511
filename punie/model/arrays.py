"""Saves arrays with the errors of a filesystem, and computes digests of a model's parameters."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten


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
