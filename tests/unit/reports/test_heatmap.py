"""The heatmap of a summary."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from punie.reports.plots import heatmap


def drawn(*, text: str = "failed") -> str:
    return heatmap(
        [[0.25, 1.0], [0.75, None]],
        [["0.25", "1.00"], ["0.75", text]],
        rows=["0", "$x$"],
        columns=["0", "0.7"],
        row_label="lora.seed",
        column_label="eval.temperature",
    )


def test_every_place_is_told() -> None:
    """Every figure, name and label stands in it as text, and a place without a score says why."""
    texts = [
        element.text for element in ElementTree.fromstring(drawn()).iter() if element.tag.endswith("text")
    ]
    assert {"0.25", "1.00", "0.75", "failed", "$x$", "0.7", "lora.seed", "eval.temperature"} <= set(texts)


def test_a_place_without_a_score_has_no_colour() -> None:
    """Three scores are three colours, and what is missing is not shown as one."""
    fills = set(
        re.findall(r"fill: (#[0-9a-f]{6})", drawn(text="–").partition("QuadMesh")[2].partition("text_")[0])
    )
    assert len(fills) == 3


@pytest.mark.filterwarnings("error")
def test_any_script_is_text() -> None:
    """Letters that the measuring font lacks stand in it all the same, without a warning."""
    assert "模型" in drawn(text="模型")


def test_the_same_figures_give_the_same_bytes() -> None:
    """Drawn twice it is the same, holds no raster image, and markup in a text is escaped."""
    assert drawn() == drawn()
    assert "<image" not in drawn()
    assert "<b>" not in drawn(text="<b>")
