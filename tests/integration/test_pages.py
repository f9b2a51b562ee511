"""What the how-tos, quick starts and concepts tell a reader to type is run as it stands there.

In a ```console block each line that begins with ``$`` is a command; what is shown below it must come out,
line by line, with ``…`` for anything. A comment above a block says otherwise:

<!-- exit: 3 -->            the block's last command ends with this code instead of 0
<!-- file: mine/eval.yaml --> the block is that file, which the reader writes
<!-- not run: a reason -->  not here, and why
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from punie.config import resolve
from punie.config.compose import compose
from punie.paths import PACKAGE
from punie.stages import STAGES

ROOT = PACKAGE.parent
DOCS = ROOT / "docs"
PAGES = [
    *(DOCS / "concepts.md", DOCS / "editors.md"),
    *sorted(DOCS.glob("quickstart-*.md")),
    *sorted(DOCS.glob("howto/*.md")),
]
_BLOCK = re.compile(r"(?:^<!-- ([\w ]+): (.+?) -->\n)?^(`{3,})(\w*)\n(.*?)^\3$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    mark: str
    about: str
    kind: str
    text: str

    def commands(self) -> Iterator[tuple[str, list[str], int]]:
        """Each command with the lines shown below it and the exit code it must have."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        for number, part in enumerate(parts, 1):
            command, *shown = part.rstrip().split("\n")
            last = self.mark == "exit" and number == len(parts)
            yield command, shown, int(self.about) if last else 0


def blocks(page: Path) -> list[Block]:
    found = _BLOCK.finditer(page.read_text("utf-8"))
    return [Block(each[1] or "", each[2] or "", each[4], each[5]) for each in found]


def lacking(shown: list[str], output: str) -> list[str]:
    """The shown lines that do not come out, in their order; … stands for anything, and spaces for spaces."""
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    patterns = {line: re.escape(" ".join(line.split())).replace("…", ".*") for line in shown}
    wanted = [line for line in shown if line.strip() not in ("", "…")]
    return [line for line in wanted if not any(re.fullmatch(patterns[line], each) for each in lines)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    """Run in order, from a fresh folder, each command ends as stated, and what is shown comes out."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PUNIE_", "HYDRA_"))}
    env = {**own, "PATH": path, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    for block in blocks(page):
        if block.mark == "file":
            (tmp_path / block.about).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.about).write_text(block.text, "utf-8")
        elif block.mark != "not run":
            for command, shown, code in block.commands():
                done = subprocess.run(
                    ["bash", "-c", command], cwd=tmp_path, env=env, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=600,
                )  # fmt: skip
                assert done.returncode == code, f"$ {command}\n{done.stdout}"
                assert lacking(shown, done.stdout) == [], f"$ {command}\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_accounted_for(page: Path) -> None:
    """A block is a console's, a file's, or a drawing; a mark is one of three."""
    found = blocks(page)
    assert found
    assert {block.mark for block in found} <= {"", "exit", "file", "not run"}
    unmarked = [block for block in found if block.mark in ("", "exit")]
    assert [block for block in unmarked if block.kind not in ("console", "mermaid")] == []
    assert [block for block in found if block.kind == "console" and not list(block.commands())] == []


@pytest.mark.parametrize(
    ("shown", "missed"),
    [
        (["a … c", "…", "", "last"], []),
        (["a …"], []),
        (["last", "a … c"], ["a … c"]),
        (["b"], ["b"]),
    ],
    ids=["all", "wide spaces", "another order", "a part of a line"],
)
def test_what_does_not_come_out_is_missed(shown: list[str], missed: list[str]) -> None:
    """A shown line has to come out whole and after the one before; only … and spaces are free."""
    assert lacking(shown, "a   b c\n\nmore\nlast\n") == missed


def test_the_drawings_are_the_code() -> None:
    """The pipeline's lines are what stages need, the layers those of the import contract, in their order."""
    pipeline, layers = (block.text for block in blocks(DOCS / "concepts.md") if block.kind == "mermaid")
    config = resolve(compose([]))
    needed = {(upstream, stage.name) for stage in STAGES for upstream in stage.needs(stage.settings(config))}
    assert set(re.findall(r"^  (\w+) --> (\w+)$", pipeline, re.MULTILINE)) == needed
    with (ROOT / "pyproject.toml").open("rb") as file:
        contract = tomllib.load(file)["tool"]["importlinter"]["contracts"][0]["layers"]
    assert re.findall(r'\["(.+?)"\]', layers) == [each.replace("punie.", "") for each in contract]


def test_the_index_leads_to_every_page() -> None:
    """docs/index.md links each document; of those that have an index of their own, that one."""
    index = (DOCS / "index.md").read_text("utf-8")
    pages = [path.relative_to(DOCS) for path in DOCS.rglob("*.md") if path.name != "index.md"]
    own = {"phases", "decisions", "research"}
    wanted = {str(path) for path in pages if path.parts[0] not in own or path.name == "README.md"}
    assert [page for page in sorted(wanted) if f"]({page})" not in index] == []
