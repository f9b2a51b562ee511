"""Which device MLX will use, told without importing mlx: keys and plans need it and must be quick."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path


def device_kind() -> str:
    """``metal``, ``cuda`` or ``cpu``."""
    if sys.platform == "darwin":
        return "metal"
    has_cuda = any(
        name.startswith("mlx-cuda")
        for name in (d.name.lower() for d in importlib.metadata.distributions())
        if name
    )
    return "cuda" if has_cuda and Path("/dev/nvidiactl").exists() else "cpu"


def libraries() -> dict[str, str]:
    """Versions of what computes: part of every key."""
    return {name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm")}
