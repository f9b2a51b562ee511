"""``punie doctor``: what it asks for is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import platformdirs

_SCRIPT = """
import argparse, pathlib
import mlx.core as mx
from mlx_lm.models.activations import swiglu
from punie.commands import doctor
mx.eval(swiglu(mx.ones((5, 7)), mx.ones((5, 7))))
print([finding for finding in doctor._findings(pathlib.Path("store")) if "compiler" in finding[0]])
"""


def test_no_compiler_is_needed(tmp_path: Path) -> None:
    """Without a compiler on the path MLX runs its compiled functions, and the doctor asks for none."""
    cache = str(platformdirs.user_cache_path().absolute())  # punie's copy of OpenBLAS takes long to make
    env = {**dict.fromkeys(("PATH", "HOME", "TMPDIR"), str(tmp_path)), "XDG_CACHE_HOME": cache}
    done = subprocess.run([sys.executable, "-c", _SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
