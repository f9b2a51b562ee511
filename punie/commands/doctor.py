"""Check this machine: what punie will use of it, and how to fix each problem.

punie doctor
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

Finding = tuple[str, str, str]
"""What was checked, what was found, what to do about it (empty: nothing)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--dir", default="outputs/store", help="folder of the store (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 if one of them stops punie from working."""
    from tabulate import tabulate

    findings = list(_findings(Path(arguments.dir)))
    broken = any(remedy.startswith("must") for *_, remedy in findings)
    rows = [[what, found, remedy or "ok"] for what, found, remedy in findings]
    print(tabulate(rows, ["what", "found", "to do"], tablefmt="simple", maxcolwidths=[None, 46, 50]))
    print("\nnext: " + ("fix what must be fixed, then punie doctor" if broken else "python -m punie"))
    return 1 if broken else 0


def _findings(store: Path) -> Iterator[Finding]:
    import psutil

    from punie.model import blas
    from punie.model.device import default_device, version
    from punie.run.capture import PACKAGES
    from punie.util.files import free_bytes

    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield "Python", platform.python_version(), "" if supported else "must be 3.11, 3.12 or 3.13"
    missing = [name for name in PACKAGES if version(name) is None]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES if name not in missing)
    yield "packages", versions, f"must install {', '.join(missing)}: make run" if missing else ""
    active = blas.activate()
    yield "BLAS", f"{active.name} ({active.source})", f"slow; {active.note}" if active.note else ""
    device = default_device()
    gpu = "gpu" in device
    yield "device", device, "" if gpu else "no GPU for MLX: fine for tiny models, slow for large ones"
    blas.set_threads(blas.SMALL_MODEL)
    speed = blas.gflops()
    slow = not gpu and speed < 20
    remedy = "slow for a CPU: install libopenblas, or check scipy-openblas32" if slow else ""
    yield "float32 products", f"{speed:.0f} GFLOP/s (1024 x 1024)", remedy
    memory = psutil.virtual_memory()
    found = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    yield "memory", found, "close other programs to train large models" if memory.available < 2e9 else ""
    free = free_bytes(store)
    yield "disk", f"{free / 1e9:.1f} GB free for {store}", "punie store gc" if free < 2e9 else ""
    yield _hub()


def _hub() -> Finding:
    from huggingface_hub.constants import HF_HUB_CACHE

    found = Path(HF_HUB_CACHE).glob("models--*")
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in found)
    words = ", ".join(models[:4]) + (f" and {len(models) - 4} more" if len(models) > 4 else "")
    remedy = "" if models else "none needed for model=tiny; others are downloaded"
    return "hub cache", words or "no models", remedy
