"""Text from elsewhere made safe for a terminal: no control characters, no passwords."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap

_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")


def without_passwords(text: str) -> str:
    """The text with user and password of every URL masked: ``http://***@host``."""
    return _USERINFO.sub("***@", text)


def printable(text: str) -> str:
    """The text with every non-printable character escaped, line ends included: ESC becomes ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def in_bytes(size: int) -> str:
    """A size in MB, or in GB from 1 GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.2f} MB"


def folded(sentence: str) -> str:
    """A sentence for standard output: wrapped at the width of a terminal, elsewhere on one line."""
    if not sys.stdout.isatty():
        return sentence
    width = shutil.get_terminal_size().columns
    return textwrap.fill(sentence, width, break_long_words=False, break_on_hyphens=False)
