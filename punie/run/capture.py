"""Records where and with what a run ran: enough to run it again, and nothing private."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from punie.model.device import device_kind, version
from punie.results.records import ArtifactFiles, Git, Machine, Provenance
from punie.store.artifact import Artifact
from punie.util.paths import PACKAGE
from punie.util.printable import without_passwords

PACKAGES = (
    "punie",
    "mlx",
    "mlx-lm",
    "transformers",
    "tokenizers",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pydantic-monty",
)
ENVIRONMENT = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MLX_DISABLE_COMPILE", "HF_HUB_OFFLINE", "CI")
"""The only environment variables that are ever recorded."""


def capture(
    *, argv: Sequence[str] = (), overrides: Sequence[str] = (), config_digest: str = ""
) -> Provenance:
    """The surroundings of a run at its start, without passwords of URLs; ``finish`` adds the rest."""
    import psutil

    return Provenance(
        version=Provenance.VERSION,
        started=now(),
        command=[without_passwords(each) for each in argv],
        overrides=[without_passwords(each) for each in overrides],
        config_sha256=config_digest,
        git=git(),
        packages={name: version(name) for name in PACKAGES},
        python=platform.python_version(),
        machine=Machine(
            system=platform.platform(),
            chip=_chip(),
            cores=psutil.cpu_count(logical=False) or psutil.cpu_count(),
            memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
            device=device_kind(),
        ),
        environment={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    )


def finish(
    record: Provenance,
    *,
    blas: str | None,
    inputs: dict[str, Any],
    artifacts: Mapping[str, Artifact],
    data: dict[str, Any],
) -> Provenance:
    """The record with what is known in the end, the time and the peak memory among it."""
    made = {name: ArtifactFiles(key=each.key, files=each.digests) for name, each in artifacts.items()}
    end = {"ended": now(), "blas": blas, "peak_memory_mb": peak_memory_mb()}
    return record.model_copy(update={**end, "inputs": inputs, "artifacts": made, "data": data})


def peak_memory_mb() -> float:
    """Largest resident size that this process has had, or one that it started, as for a stage; MB."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return round(peak * unit / 1e6, 1)


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git() -> Git | None:
    """Commit and dirtiness of punie's checkout; None in an installed copy, or without git."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    status = ("status", "--porcelain=v2", "--branch", "--untracked-files=no")
    found = _output("git", "-C", str(PACKAGE.parent), *status)
    if found is None:
        return None
    lines = found.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    return Git(commit=commit, dirty=any(not line.startswith("#") for line in lines))


def _chip() -> str:
    if sys.platform == "darwin":
        return (_output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()).strip()
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _output(*command: str) -> str | None:
    """What a command prints; None if it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
