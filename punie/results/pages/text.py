"""Text that others wrote, as a document can hold it: nothing hidden, nothing that acts."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

from markupsafe import Markup, escape

_UNUSUAL = re.compile(r"[^\n\t -~]+")
"""Where to look at single characters; most text has none of these."""
_MEANS_SOMETHING = re.compile(r"[\\`*_\[\]<>&~|#$]|://|www\.")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories without a shape of their own: control and format characters (escape sequences, changes of
direction, joiners), halves of surrogate pairs, separators of lines and paragraphs."""


def visible(text: str) -> str:
    """A text whose hidden characters are shown as symbols; line feeds and tabs stay what they are.

    ESC becomes ␛, what has no symbol of its own its number, such as ⟨U+202E⟩. What comes out can be encoded.
    """
    return _shown(text, "", "")


def visible_html(text: str) -> Markup:
    """The same for HTML, escaped; the symbols stand in ``<i>``, so that ␛ itself looks different."""
    return Markup(_shown(str(escape(text)), "<i>", "</i>"))  # noqa: S704 - escaped on this very line


def cell(value: object) -> str:
    """A value as it can stand in a Markdown table: on one line, without ending its cell."""
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
    """Words of a model, or around them, for a line or a cell of Markdown: shown, and never obeyed.

    What means something to Markdown, HTML or a terminal stands in a code span that it cannot close.
    """
    text = visible(" ".join(str(value).split()))
    return cell(code(text)) if _MEANS_SOMETHING.search(text) else text


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
