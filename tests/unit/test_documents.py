"""Documents that could drift from the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from punie.__main__ import COMMANDS
from punie.commands.help import text
from punie.paths import PACKAGE

ROOT = PACKAGE.parent


def test_the_tree_has_a_line_for_every_file() -> None:
    """The tree of docs/architecture.md names every module in its place, and none that is gone."""
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    tree = page[page.index("punie/\n") :].split("```")[0]
    named, folder = [], ""
    for indent, name in re.findall(r"^( +)(\w+(?:\.py|/)) +\S", tree, re.MULTILINE):
        if name.endswith("/"):
            folder = name
        else:
            named.append(folder + name if len(indent) > 2 else name)
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(named) == sorted(str(path.relative_to(PACKAGE)) for path in modules)


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


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a document points to a file that exists."""
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_constraints_carry_no_address() -> None:
    """constraints.txt pins versions and names no host."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"#.*|[\w.\-]+==[\w.+]+", line) for line in lines)
