"""Finds the device that MLX will use and its memory; imports mlx only where a function says so."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
from pathlib import Path


@functools.cache
def device_kind() -> str:
    """``metal``, ``cuda`` or ``cpu``."""
    if sys.platform == "darwin":
        return "metal"
    has_cuda = any(version(name) for name in ("mlx-cuda-13", "mlx-cuda-12"))
    return "cuda" if has_cuda and Path("/dev/nvidiactl").exists() else "cpu"


_MEMORY = ("max_recommended_working_set_size", "total_memory", "memory_size")
"""MLX's names for the memory of a device, the strictest first: Metal, CUDA, Metal's machine."""
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@functools.cache
def memory() -> int | None:
    """Bytes of memory that the device can use: on a CPU the machine's, or the container's limit if lower.

    None where MLX does not state it. Imports mlx on a GPU.
    """
    if device_kind() == "cpu":
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
        return min(machine, int(limit)) if limit.isdecimal() else machine
    import mlx.core as mx

    known = mx.device_info()
    return next((int(known[name]) for name in _MEMORY if name in known), None)


def default_device() -> str:
    """The device that MLX uses, such as ``Device(cpu, 0)``; imports mlx."""
    import mlx.core as mx

    return str(mx.default_device())


@functools.cache
def version(name: str) -> str | None:
    """Installed version of a package, None if there is none; cached, since every stage's key holds some."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
