"""Completion as bash has it: the script that punie prints, and what Tab then finds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import punie

BIN = Path(sys.executable).parent
_PRESS_TAB = """
eval "$(punie -sc install=bash)"
COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=($1) COMP_CWORD=$2
$(complete -p punie | sed -E 's/.*-F ([a-z_]+) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


def tab(line: str, cwd: Path) -> list[str]:
    """What bash offers where the line ends."""
    bash = shutil.which("bash")
    assert bash, "bash is needed"
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    word = str(len(line.split()) - (not line.endswith(" ")))
    command = [bash, "-c", _PRESS_TAB, "bash", line, word]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("punie lora.ra", ["lora.rank="]),
        ("punie model=qwen3_8", ["model=qwen3_8b"]),
        ("punie +phase=43", ["+phase=43a", "+phase=43b"]),
        ("punie +phase=45 eval.temp", ["eval.temperature="]),
        ("punie plan -m +phase=46 --estimate lora.sel", ["lora.select=", "lora.select_suite="]),
        ("punie res", ["resume", "rescore"]),
        ("punie show outputs/", []),
        ("punie model=[ lora.ra", []),
    ],
)
def test_tab_completes(line: str, offered: list[str], tmp_path: Path) -> None:
    """Fields, options, phases and subcommands; nothing, and no error, where nothing of punie's fits."""
    if not (BIN / "punie").exists():
        pytest.skip("punie is not installed as a program here")
    assert tab(line, tmp_path) == offered


def test_the_script_is_for_punie_however_it_is_asked_for(tmp_path: Path) -> None:
    """Asked through ``python -m``, it is for punie and not for every python; an unknown shell is told."""
    done = punie("-sc", "install=bash", cwd=tmp_path, new=True)
    assert (done.code, done.err) == (0, "")
    assert done.out.rstrip().endswith("-F hydra_bash_completion punie")
    bad = punie("--shell-completion", "install=csh", cwd=tmp_path)
    assert bad.code != 0
    assert "csh" in bad.err
