"""The walkthrough: what it tells a reader to type is what punie takes."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex

import pytest

from punie.__main__ import COMMANDS
from punie.config import resolve
from punie.config.compose import compose, quote_phases
from punie.sweep.compose import grid
from punie.util.paths import PACKAGE

DOCS = PACKAGE.parent / "docs"
TYPED = re.findall(r"^```console\n\$ (.+)$", (DOCS / "walkthrough.md").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", [each for each in TYPED if each.startswith("punie ")])
def test_a_subcommand_is_one(command: str) -> None:
    """Each subcommand exists and takes its arguments."""
    _, name, *arguments = shlex.split(command)
    assert name in COMMANDS
    parser = argparse.ArgumentParser()
    importlib.import_module(f"punie.commands.{name}").add_arguments(parser)
    parser.parse_args(arguments)


@pytest.mark.parametrize("command", [each for each in TYPED if "model=" in each])
def test_what_is_run_composes(command: str) -> None:
    """Every job of what is registered, planned or run is a valid config."""
    overrides = [word for word in shlex.split(command) if "=" in word]
    jobs = grid(None, {}, quote_phases(overrides))
    assert all(resolve(compose(job)).model.name == "tiny" for job in jobs)


def test_the_page_is_that_of_its_text() -> None:
    """The page has the commands of docs/walkthrough.md.jinja, each of them punie's, in their order."""
    text = (DOCS / "walkthrough.md.jinja").read_text("utf-8")
    assert re.findall(r'console\(\s*"([^"]+)"', text) == TYPED
    assert all(command.startswith(("punie ", "python -m punie ")) for command in TYPED)
