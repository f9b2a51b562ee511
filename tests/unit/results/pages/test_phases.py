"""The generated pages: current, and careful with what is not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from punie.config.presets import presets
from punie.results.pages.phases import FOLDER, pages, write
from punie.util.paths import PACKAGE


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return pages()


def test_the_pages_are_current(generated: dict[str, str]) -> None:
    """docs/phases is what the presets give, no page more and none less: make docs writes it."""
    folder = PACKAGE.parent / FOLDER
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == generated


def test_a_page_says_what_was_decided(generated: dict[str, str]) -> None:
    """A phase's page has its hypothesis, command, every reference, threshold, verdict and swept value."""
    for name, preset in presets().items():
        page, phase = generated[f"{name}.md"], preset.phase
        wanted = [phase.hypothesis, preset.command, *phase.references]
        wanted += [f"- {each.metric} {each.op} {each.value}\n" for each in phase.criteria]
        wanted += [outcome.verdict for outcome in phase.outcomes]
        wanted += [f"- `{key}`: {values.replace(',', ', ')}" for key, values in preset.axes.items()]
        assert [words for words in wanted if words not in page] == []
        assert f"({name}.md)" in generated["README.md"]


def test_the_tree_begins_at_its_root(generated: dict[str, str]) -> None:
    """The index draws the tree from 45 by 46 to 43b, with verdicts; a page has the next command."""
    index = generated["README.md"]
    assert index.index('p45["45') < index.index('p46["46') < index.index('p43b["43b')
    assert 'p46 -->|"a rare event"| p43b' in index
    assert "undecided; next: [46](46.md) with `seed=4,5,6,7,8`" in generated["46.md"]


def test_writing_removes_only_what_it_generated(tmp_path: Path, generated: dict[str, str]) -> None:
    """A generated page whose phase is gone is removed; a page that somebody wrote stays."""
    (tmp_path / "12.md").write_text(generated["43a.md"])
    (tmp_path / "notes.md").write_text("mine")
    write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*generated, "notes.md"}
