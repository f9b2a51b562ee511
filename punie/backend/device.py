"""Which device MLX will use, told without importing mlx: keys and plans need it and must be quick."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from pathlib import Path


@functools.cache
def device_kind() -> str:
    """``metal``, ``cuda`` or ``cpu``."""
    if sys.platform == "darwin":
        return "metal"
    has_cuda = any(_installed(name) for name in ("mlx-cuda-13", "mlx-cuda-12"))
    return "cuda" if has_cuda and Path("/dev/nvidiactl").exists() else "cpu"


@functools.cache
def version(name: str) -> str:
    """Installed version of a package; looked up once, since every stage's key holds some."""
    return importlib.metadata.version(name)


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
