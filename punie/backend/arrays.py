"""Writing arrays, with the errors of a filesystem."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import mlx.core as mx


def save_arrays(path: Path, arrays: dict[str, mx.array]) -> None:
    """Write arrays as a safetensors file.

    Raises:
        OSError: They cannot be written; mlx itself says so with a RuntimeError.
    """
    try:
        mx.save_safetensors(str(path), arrays)
    except RuntimeError as error:
        size = sum(array.nbytes for array in arrays.values())
        full = shutil.disk_usage(path.parent).free < size
        code = errno.ENOSPC if full else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error
