"""Values as text in a document; text of a model with hidden characters shown and markup inert."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

from markupsafe import Markup, escape

_UNUSUAL = re.compile(r"[^\n\t -~]+")
"""Runs of characters to look at one by one; most text has none."""
_MARKUP = re.compile(r"[\\`*_\[\]<>&~|#$]|://|www\.")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories without a glyph: control and format characters (escape sequences, changes of direction,
joiners), halves of surrogate pairs, separators of lines and paragraphs."""


def share(value: float | None) -> str:
    """A figure from 0 to 1 with three digits; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def visible(text: str) -> str:
    """A text whose hidden characters are shown as symbols; line feeds and tabs are kept.

    ESC becomes ␛, a character without a symbol its number: ⟨U+202E⟩. The result can be encoded.
    """
    return _shown(text, "", "")


def visible_html(text: str) -> Markup:
    """The same for HTML, escaped. Symbols stand in ``<i>``, so that a ␛ in the text looks different."""
    return Markup(_shown(str(escape(text)), "<i>", "</i>"))  # noqa: S704 - escaped on this very line


def cell(value: object) -> str:
    """A value for a cell of a Markdown table: on one line, bars escaped."""
    return " ".join(str(value).splitlines()).replace("|", "\\|")


def fence(text: str) -> str:
    """A fenced block of Markdown that the text cannot close."""
    marks = "`" * max(3, 1 + _longest_run(text))
    return f"{marks}\n{text}\n{marks}"


def code(text: str) -> str:
    """A line of Markdown as code, which the text cannot end."""
    line = " ".join(text.splitlines())
    marks = "`" * (1 + _longest_run(line))
    return f"{marks} {line} {marks}" if "`" in line else f"`{line}`"


def inline(value: object) -> str:
    """Text of a model for a line or a cell of Markdown; markup stands in a code span that it cannot close."""
    text = visible(" ".join(str(value).split()))
    return cell(code(text)) if _MARKUP.search(text) else text


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _shown(text: str, start: str, end: str) -> str:
    def replace(run: re.Match[str]) -> str:
        parts = groupby(run[0], lambda char: unicodedata.category(char) in _HIDDEN)
        return "".join(
            f"{start}{''.join(map(_symbol, chars))}{end}" if hidden else "".join(chars)
            for hidden, chars in parts
        )

    return _UNUSUAL.sub(replace, text)


def _symbol(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of control characters, in their order
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
