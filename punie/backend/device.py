"""Which device MLX will use, told without importing mlx: keys and plans need it and must be quick."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path


def device_kind() -> str:
    """``metal``, ``cuda`` or ``cpu``."""
    if sys.platform == "darwin":
        return "metal"
    has_cuda = any(_installed(name) for name in ("mlx-cuda-13", "mlx-cuda-12"))
    return "cuda" if has_cuda and Path("/dev/nvidiactl").exists() else "cpu"


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
