"""MLX on the CPU as punie sets it up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from punie.model.device import device_kind

COMPILED = """
from punie.model import blas
blas.activate()
import mlx.core as mx
if {enabled}:
    mx.enable_compile()
several = mx.compile(lambda x: mx.exp(x) * x + x)
print(several(mx.zeros(8)).sum().item())
"""


@pytest.mark.skipif(device_kind() != "cpu", reason="a GPU compiles its own kernels")
@pytest.mark.parametrize("enabled", [False, True], ids=["with punie", "with MLX alone"])
def test_no_compiler_is_asked_for(enabled: bool, tmp_path: Path) -> None:
    """MLX calls no compiler on the path, for a function that it would otherwise compile."""
    called = tmp_path / "called"
    compiler = tmp_path / "g++"
    compiler.write_text(f"#!/bin/sh\ntouch {called}\nexit 1\n")
    compiler.chmod(0o755)
    command = [sys.executable, "-c", COMPILED.format(enabled=enabled)]
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "0.0\n"), done.stderr
    assert called.exists() is enabled
