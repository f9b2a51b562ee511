"""Documents that could drift from the code."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from punie.__main__ import COMMANDS
from punie.commands.help import text
from punie.config import Config, resolve
from punie.config.command import quote_options
from punie.config.compose import compose
from punie.sweep.compose import grid
from punie.util.paths import PACKAGE
from tests.pages import blocks

ROOT = PACKAGE.parent
WALKTHROUGHS = {
    page: re.findall(r"^```console\n\$ (.+)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    for page in ("docs/walkthrough.md", "docs/walkthrough-real.md")
}
TYPED = [command for commands in WALKTHROUGHS.values() for command in commands]
"""What the walkthroughs tell a reader to type."""
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))


def test_the_tree_is_todays() -> None:
    """The tree of docs/architecture.md has a line for every module, as `make docs` writes it."""
    spec = importlib.util.spec_from_file_location("tree", ROOT / "docs/tree.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text("utf-8") == module.page()
    tree = module.tree()
    assert all(path.name in tree for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def test_an_addition_goes_where_the_page_says() -> None:
    """Each table that docs/architecture.md names is in the file named beside it."""
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| .+ \| `(\S+)` \| `(\w+)` in `(\S+)` \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for file, table, holder in rows:
        assert re.search(rf"^{table}\b.*= ", (ROOT / holder).read_text("utf-8"), re.MULTILINE)
        assert (ROOT / file).parent.is_dir()


def test_help_tells_of_every_command_and_group() -> None:
    """``--help`` lists each subcommand, and each option of each group."""
    shown = text(COMMANDS)
    assert [name for name in COMMANDS if f"punie {name}" not in shown] == []
    options = [
        path.stem
        for group in ("phase", "model", "data", "lora")
        for path in (ROOT / "conf" / group).iterdir()
    ]
    assert [option for option in options if option not in shown] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a document points to a file that exists."""
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def mentioned(page: Path) -> list[list[str]]:
    """The commands in a page's sentences, and those shown that no test runs, as words."""
    sentences = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`((?:punie|python|make) [^`]+)`", sentences)
    shown = [each for block in blocks(page) if block.mark == "not run" for each, _, _ in block.commands()]
    return [shlex.split(each, comments=True) for each in [*inline, *shown] if "…" not in each]


@functools.cache
def composed(overrides: tuple[str, ...]) -> Config:
    """The config of a command, which many pages may mention."""
    return resolve(compose(overrides))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_what_a_page_only_mentions_is_there(page: Path) -> None:
    """The target, file or subcommand of a command that no test types exists, and its config composes.

    A preset that the page has the reader write is left to what follows the page.
    """
    written = [Path(block.about) for block in blocks(page) if block.mark == "file"]
    own = {f"{path.parent.name}={path.stem}" for path in written}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for words in mentioned(page):
        match words:
            case ["make", name, *_]:
                assert name in targets
            case ["python", "-m", "punie", *overrides] | ["punie", "plan" | "prereg", *overrides]:
                given = [each for each in overrides if "=" in each and not each.startswith("hydra")]
                fields = [each for each in given if each not in own]
                assert composed(tuple(grid(None, {}, quote_options(fields))[-1]))
            case ["punie", name, *_] if not name.startswith("-"):
                assert name in COMMANDS
            case ["python", "-m", name, *_] | ["python", name, *_] if name.startswith(
                ("tests", "benchmarks")
            ):
                path = ROOT / name.removesuffix(".py").replace(".", "/")
                assert path.is_dir() or path.with_suffix(".py").exists()


def test_constraints_carry_no_address() -> None:
    """constraints.txt pins versions and names no host."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"#.*|[\w.\-]+==[\w.+]+", line) for line in lines)


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
    jobs = grid(None, {}, quote_options(overrides))
    assert all(composed(tuple(job)).model.name in ("tiny", "smollm2") for job in jobs)


@pytest.mark.parametrize("page", WALKTHROUGHS)
def test_the_page_is_that_of_its_text(page: str) -> None:
    """The page has the commands of its .jinja file, each of them punie's, in their order."""
    text, typed = (ROOT / f"{page}.jinja").read_text("utf-8"), WALKTHROUGHS[page]
    assert typed != []
    assert re.findall(r'console\(\s*"([^"]+)"', text) == typed
    assert all(command.startswith(("punie ", "python -m punie ")) for command in typed)
