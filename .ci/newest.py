"""Run tests with the newest versions that pyproject.toml allows of Hydra, OmegaConf and MLX.

What is newer than the installed version is put into a folder of its own, ahead of the environment, so a
pin in constraints.txt is a choice. ``make newest ARGS=--pre`` shows a change before it is released.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
WATCHED = {"hydra-core", "omegaconf", "mlx", "mlx-cpu", "mlx-lm"}
PRE = "--pre"
"""Count pre-releases, which CI does not: they may change before they are released."""
TESTS = ("tests/unit/config", "tests/unit/sweep", "tests/integration/test_front_door.py")
"""What uses these libraries the most; extended by what the command line names."""


def allowed() -> list[str]:
    """The watched requirements of pyproject.toml, with their bounds."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    found = [Requirement(line) for line in listed]
    here = [each for each in found if each.marker is None or each.marker.evaluate()]
    names = [f"{each.name}{each.specifier}" for each in here if each.name in WATCHED]
    mlx = next(each for each in here if each.name == "mlx")
    return [*names, *(f"mlx-cpu{mlx.specifier}" for extra in mlx.extras if extra == "cpu")]


def newer(folder: Path) -> list[str]:
    """Install what is newer than the environment's into a folder; returns names and versions."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--pre"] if PRE in sys.argv else []
    plan = [*pip, "--ignore-installed", "--dry-run", "--report", "-", *allowed()]  # what goes together
    report = json.loads(subprocess.run(plan, check=True, capture_output=True, text=True).stdout)
    found = {each["metadata"]["name"]: each["metadata"]["version"] for each in report["install"]}
    newest = {name: found[name] for name in WATCHED & found.keys()}
    ahead = [f"{name}=={v}" for name, v in newest.items() if v != importlib.metadata.version(name)]
    if ahead:
        subprocess.run([*pip, "--no-deps", "--upgrade", "--target", str(folder), *ahead], check=True)
    return ahead


def main() -> int:
    """Install, say what is newer, test; the tests' exit code."""
    folder = ROOT / ".venv/newest"
    try:
        ahead = newer(folder)
    except subprocess.CalledProcessError as error:
        words = (error.stderr or "").strip().splitlines() or ["no reason given"]
        print(f"NOT TESTED with newer versions, pip cannot find or install them: {words[-1]}")
        return 0
    print(
        f"newer than constraints.txt: {', '.join(ahead) or 'nothing, so nothing is tested again'}", flush=True
    )
    if not ahead:
        return 0
    paths = [str(folder), str(ROOT)]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", *TESTS]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
