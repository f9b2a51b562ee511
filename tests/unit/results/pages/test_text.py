"""Text that others wrote cannot hide, act, or leave its place."""

from __future__ import annotations

import unicodedata

import pytest

from punie.results.pages.text import cell, code, fence, inline, visible, visible_html


@pytest.mark.parametrize("text", ["", "plain", "`", "a `` b", "```\n", "````"])
def test_a_fence_is_longer_than_what_it_holds(text: str) -> None:
    """No run of back quotes in a text is as long as those around it."""
    marks, _, rest = fence(text).partition("\n")
    assert rest == f"{text}\n{marks}"
    assert len(marks) >= 3
    assert marks not in text


def test_a_value_does_not_end_its_cell_or_code() -> None:
    """Bars are escaped, back quotes inside are met with longer ones, and line ends become blanks."""
    assert (cell("a|b\r\nc\nd"), cell(1)) == ("a\\|b c d", "1")
    assert code("f(a)") == "`f(a)`"
    assert code("f(`a`)") == "`` f(`a`) ``"
    assert code("f(a,\n  b)") == "`f(a,   b)`"


def test_every_hidden_character_is_seen() -> None:
    """Of all of Unicode, line feeds and tabs apart, nothing without a shape comes through."""
    everything = "".join(map(chr, range(0x110000)))
    found = {unicodedata.category(char) for char in visible(everything) if char not in "\n\t"}
    assert found & {"Cc", "Cf", "Cs", "Zl", "Zp"} == set()
    assert visible("\n\t é 語 🙂 abc") == "\n\t é 語 🙂 abc"
    assert visible("\x00\x1b\x7f\x9b\u202e\ud800") == "␀␛␡⟨U+009B⟩⟨U+202E⟩⟨U+D800⟩"


def test_a_symbol_differs_from_the_same_character_in_the_text() -> None:
    """In HTML an ESC and a ␛ that the model wrote do not look alike; everything else is escaped."""
    assert visible_html("␛\x1b\x00<i>") == "␛<i>␛␀</i>&lt;i&gt;"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wrong tool: hover(…)", "wrong tool: hover(…)"),
        ("<script>a|b</script>", "`<script>a\\|b</script>`"),
        ("`` x", "``` `` x ```"),
        ("a\x1b[31m\u202eb\nc", "`a␛[31m⟨U+202E⟩b c`"),
        ("", ""),
    ],
)
def test_words_of_a_model_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    """Markup stands in a code span it cannot close; what steers a terminal is spelled out."""
    assert inline(text) == shown
