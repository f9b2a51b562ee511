"""The heatmap of a summary."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from punie.results.pages.plots import heatmap, standalone


def drawn(text: str = "failed") -> str:
    texts = [["0.25", "1.00"], ["0.75", text]]
    rows, columns = ["0", "$x$"], ["0", "0.7"]
    labels = {"row_label": "lora.seed", "column_label": "eval.temperature"}
    return heatmap([[0.25, 1.0], [0.75, None]], texts, rows=rows, columns=columns, **labels)


@pytest.mark.filterwarnings("error")
def test_every_place_is_told() -> None:
    """Each figure, name and label is text, in any script; a place without a score says why, uncoloured."""
    texts = {each.text for each in ElementTree.fromstring(drawn("模型")).iter() if each.tag.endswith("text")}
    assert {"0.25", "1.00", "0.75", "模型", "$x$", "0.7", "lora.seed", "eval.temperature"} <= texts
    assert len(set(re.findall(r'<path[^>]*style="fill: (#[0-9a-f]{6})', drawn("–")))) == 3


def test_one_axis_is_named_alone() -> None:
    """Without columns to name, the picture is called by its rows."""
    drawn = heatmap([[0.5]], [["0.50"]], rows=["0"], columns=["strict"], row_label="seed", column_label="")
    assert 'aria-label="seed"' in drawn


def test_a_picture_can_be_a_file() -> None:
    """On its own it is an SVG document with a size, and colours that need no page around it."""
    root = ElementTree.fromstring(standalone(drawn()))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.attrib["width"].removesuffix("pt")) > 0
    assert "var(" not in standalone(drawn())


def test_the_same_figures_give_the_same_bytes() -> None:
    """Drawn twice it is the same, holds no raster image, and markup in a text is escaped."""
    assert drawn() == drawn()
    assert "<image" not in drawn()
    assert "<b>" not in drawn("<b>")
