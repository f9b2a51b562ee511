"""punie as people install it: the wheel, in an environment of its own, away from the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from punie.util.paths import PACKAGE
from tests.conftest import LEAST

ROOT = PACKAGE.parent
_SCHEMA = re.compile(rb"^# yaml-language-server: \$schema=(\S+)$", re.MULTILINE)
_NOISE = {"__pycache__", ".DS_Store"}


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel."""

    home: Path
    place: Path
    """An empty folder to work in."""

    def run(self, program: str, *arguments: str) -> str:
        """The output of a program of the environment."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PUNIE_", "PYTHON"))}
        own["MONTY_BIN"] = str(Path(sys.executable).with_name("monty"))  # a program of the dependencies
        done = subprocess.run(
            [self.home / "bin" / program, *arguments], cwd=self.place, env=own, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = out.glob("punie-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A new environment with the wheel, and its dependencies from the one that runs the tests."""
    home = tmp_path_factory.mktemp("environment")
    create = [sys.executable, "-m", "venv", "--without-pip", home]
    subprocess.run(create, check=True, capture_output=True, timeout=120)
    (packages,) = home.glob("lib/python*/site-packages")
    # Only a folder that site itself found has its .pth files read: the checkout's editable install is not.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", home / "bin/python", "install"]
    pip += ["--no-deps", "--no-index", "--quiet", wheel]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    return Installed(home, tmp_path_factory.mktemp("elsewhere"))


def test_the_wheel_has_every_file(wheel: Path) -> None:
    """Package, presets, schemas, data and templates are all inside, byte for byte, and nothing else."""
    places = (("punie/resources", ROOT, ("conf", "data")), ("punie", PACKAGE, (".",)))
    files = {
        f"{place}/{path.relative_to(top)}": path.read_bytes()
        for place, top, names in places
        for root in (top / name for name in names)
        for path in root.rglob("*")
        if path.is_file() and not _NOISE & {*path.parts}
    }
    files["hydra_plugins/punie_sweeper.py"] = (ROOT / "hydra_plugins/punie_sweeper.py").read_bytes()
    with zipfile.ZipFile(wheel) as opened:
        inside = {name: opened.read(name) for name in opened.namelist() if ".dist-info/" not in name}
    assert inside.keys() == files.keys()
    assert [name for name in files if inside[name] != files[name]] == []
    assert "punie/py.typed" in inside


def test_an_editor_finds_the_schemas_in_the_wheel(wheel: Path) -> None:
    """Every preset of a group with a schema names it, relative to itself, and the wheel has it there."""
    with zipfile.ZipFile(wheel) as opened:
        named = {
            name: os.path.normpath(Path(name).parent / found[1].decode())
            for name in opened.namelist()
            if name.endswith(".yaml") and (found := _SCHEMA.search(opened.read(name)))
        }
        assert len(named) > 25
        assert [name for name, schema in named.items() if schema not in opened.namelist()] == []


@pytest.mark.slow
def test_punie_works_where_the_wheel_is_installed(installed: Installed) -> None:
    """Help, plan, a look at the embedded data and a whole run, by the wheel's own files alone."""
    assert "punie plan" in installed.run("punie", "--help")
    where = installed.run(
        "python", "-c", "from punie.util.paths import resource; print(resource('data/code_mode'))"
    )
    assert where.startswith(str(installed.home))
    assert "rows 1,282, errors 0" in installed.run("punie", "data", "check", where.strip())
    out = installed.run("python", "-m", "punie", *LEAST)
    assert len(re.findall(r"^✓ \w+ +done", out, re.MULTILINE)) == 6
    planned = installed.run("punie", "plan", *LEAST)
    assert len(re.findall(r" cached ", planned)) == 6
    (folder,) = (installed.place / "outputs/runs/tiny").iterdir()
    assert {"report.html", "results.json", "config.yaml"} <= {path.name for path in folder.iterdir()}
