"""Markdown that says what it was given."""

from __future__ import annotations

from punie.reports.documents import cell


def test_a_cell_stays_a_cell() -> None:
    """A bar or a line's end in a value does not end its cell."""
    assert cell("a|b\r\nc\nd") == "a\\|b c d"
    assert cell(1) == "1"
