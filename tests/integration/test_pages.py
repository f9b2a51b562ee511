"""What the documents tell a reader to type is run as it stands there; tests/pages.py has the rules."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from punie.config import resolve
from punie.config.compose import compose
from punie.stages import STAGES
from punie.util.paths import PACKAGE
from tests.pages import SHORT, blocks, follow, lacking, shortened

ROOT = PACKAGE.parent
DOCS = ROOT / "docs"
PRINTED = {DOCS / "walkthrough.md", DOCS / "walkthrough-real.md", DOCS / "reference" / "cli.md"}
"""Made of what commands print; tests of their own hold them to it."""
OTHERS = sorted({*ROOT.glob("*.md"), *DOCS.rglob("*.md")} - PRINTED)
PAGES = [
    path for path in OTHERS if re.search("^```(console|mermaid)$", path.read_text("utf-8"), re.MULTILINE)
]
LONG = {
    "abstain",
    "concepts",
    "data",
    "disk",
    "evaluation",
    "phase",
    "quantize",
    "results",
    "ship",
    "suite",
    "sweeps",
    "training",
    "tutorial",
}
"""Pages that `make faults` runs, at full length: their commands train often, and stand on other pages too."""
TYPED = [
    pytest.param(path, marks=pytest.mark.long if path.stem in LONG else ())
    for path in PAGES
    if any(each.runs for each in blocks(path))
]
COMMANDS = re.compile(r"^(\$|make|python3?|punie|pip|git|apt-get|[.]\S+/bin/\w+) ", re.MULTILINE)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokens of the embedded data, which most pages need and none is about: made once."""
    return tmp_path_factory.mktemp("shared") / "tokens"


@pytest.mark.slow
@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.stem)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path, tokens: Path) -> None:
    """Run in order, from a fresh folder, each command ends as stated, and what is shown comes out."""
    made = tmp_path / "outputs/store/tokens"
    if tokens.exists():
        shutil.copytree(tokens, made)
    for command, output, wrong in follow(page, tmp_path, short=page.stem not in LONG):
        assert wrong == "", f"$ {command}\n{wrong}\n{output}"
    if made.exists() and not tokens.exists():
        shutil.copytree(made, tokens)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_accounted_for(page: Path) -> None:
    """A console has commands, and only a console; a mark is one of four."""
    found = blocks(page)
    assert {block.mark for block in found} <= {"", "exit", "file", "line", "not run"}
    assert [block for block in found if block.kind == "console" and not list(block.commands())] == []
    others = [block for block in found if block.kind != "console" and block.mark in ("", "exit")]
    assert {block.kind for block in others} <= {"", "text", "mermaid"}
    assert [block for block in others if COMMANDS.search(block.text)] == []


@pytest.mark.parametrize(
    ("shown", "missed", "figures"),
    [
        (["a … c", "…", "", "last"], [], True),
        (["a …"], [], True),
        (["last", "a … c"], ["a … c"], True),
        (["b"], ["b"], True),
        (["score 0.5"], ["score 0.5"], True),
        (["score 0.924 of 27", "last"], [], False),
        (["score 0.924 … 27"], [], False),
        (["key 75a0"], ["key 75a0"], False),
        (["score –"], ["score –"], False),
    ],
)
def test_what_does_not_come_out_is_missed(shown: list[str], missed: list[str], figures: bool) -> None:
    """A shown line has to come out whole and after the one before; only … and spaces are free, and figures
    where a page says so."""
    output = "a   b c\n\nmore\nkey 12b4\nscore -1.5 of 1,251\nlast\n"
    assert lacking(shown, output, figures=figures) == missed


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m punie", f"python -m punie {SHORT}"),
        ("punie plan seed=1   # what would run", f"punie plan seed=1 {SHORT}   # what would run"),
        ("punie plan seed=1 | grep miss", f"punie plan seed=1 {SHORT} | grep miss"),
        ("punie show outputs/runs/tiny/*", "punie show outputs/runs/tiny/*"),
    ],
)
def test_what_composes_a_config_is_shortened(command: str, expected: str) -> None:
    """Overrides are given to what takes them, before a comment or a pipe."""
    assert shortened(command) == expected


def test_the_drawing_and_the_layers_are_the_code() -> None:
    """The pipeline's lines are what stages need; the rooms of the table are those of the import contract."""
    (pipeline,) = (block.text for block in blocks(DOCS / "concepts.md") if block.kind == "mermaid")
    config = resolve(compose(["eval.targets=[base,quantized]"]))
    needed = {
        (upstream.partition(":")[0], stage.name)
        for stage in STAGES
        for upstream in stage.needs(stage.settings(config))
    }
    assert set(re.findall(r"^  (\w+) --> (\w+)$", pipeline, re.MULTILINE)) == needed
    page = (DOCS / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.+?) \| ", page[: page.index("## Where an addition goes")], re.MULTILINE)
    rooms = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    with (ROOT / "pyproject.toml").open("rb") as file:
        contract = tomllib.load(file)["tool"]["importlinter"]["contracts"][0]["layers"]
    assert rooms == [name.replace("punie.", "") for layer in contract for name in layer.split(" | ")]


def test_the_index_leads_to_every_page() -> None:
    """docs/index.md links each document; of those that have an index of their own, that one."""
    index = (DOCS / "index.md").read_text("utf-8")
    pages = [path.relative_to(DOCS) for path in DOCS.rglob("*.md") if path.name != "index.md"]
    own = {"phases", "decisions", "research"}
    wanted = {str(path) for path in pages if path.parts[0] not in own or path.name == "README.md"}
    assert [page for page in sorted(wanted) if f"]({page})" not in index] == []
