"""What may stand on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punie.util.printable import folded, printable, without_passwords


@given(st.text(st.characters() | st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_nothing_in_a_text_moves_the_cursor(text: str) -> None:
    """Any text, halves of surrogate pairs too, comes out printable, on one line, and can be encoded."""
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown


def test_what_is_printable_stays() -> None:
    """Letters, spaces and signs of any script stay as they are; the rest is escaped where it stands."""
    assert printable("né → 工具 “a b” 🙂") == "né → 工具 “a b” 🙂"
    assert printable("a\x1b[31m\nb\x9b\u202e") == "a\\x1b[31m\\nb\\x9b\\u202e"


def test_passwords_of_urls_are_masked() -> None:
    """User and password of each URL are gone, one with an @ in it too; addresses and paths with an @ stay."""
    assert without_passwords("see http://me:se@cret@host:1/v1, ray://token@x") == (
        "see http://***@host:1/v1, ray://***@x"
    )
    plain = "https://host/a@b?c=d@e and name@example.org, a@b://host"
    assert without_passwords(plain) == plain


@pytest.mark.parametrize(
    ("terminal", "shown"), [(True, "one\nlonger-than\ntwo"), (False, "one longer-than two")]
)
def test_a_sentence_is_folded_for_a_terminal(
    terminal: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal lines break between words and nowhere else; into a file a sentence goes in one line."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "8")
    assert folded("one longer-than two") == shown
