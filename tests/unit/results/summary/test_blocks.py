"""YAML read block by block."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from punie.results.summary.blocks import load


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb:\n  c: [1, 2]\n\n  d: x\n",
        "\na: 1\n",
        "a:\n- 1\n- 2\nb: 3\n",
        "a: 'one\nb: two'\n",
        "a: |\n  b: 1\n\n  c\nd: {e: f}",
        "# words\na: 1\n",
        "a: 1\na: 2\n",
        "- 1\n",
        "",
        "a:\n  b: 1\n   c: 2\n",
        "a: 1\n\tb: 2\n",
        "a: [1,\nb: 2]\n",
    ],
)
def test_a_config_read_by_its_blocks_is_the_whole_one(text: str) -> None:
    """What is read block by block is what YAML makes of the whole text, its errors too."""

    def tried(loader: Callable[[str], object]) -> object:
        try:
            return loader(text)
        except yaml.YAMLError:
            return "no YAML"

    assert tried(load) == tried(yaml.safe_load)
