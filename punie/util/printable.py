"""Text from elsewhere as a terminal may show it: without the power to move its cursor or change its title."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from typing import Any

_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")


def without_passwords(text: str) -> str:
    """The text with user and password of every URL in it masked: ``http://***@host``."""
    return _USERINFO.sub("***@", text)


def printable(text: str) -> str:
    """The text with whatever is not printable escaped, ends of lines among it: ESC becomes ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def in_bytes(size: int) -> str:
    """A size in MB, or GB from one on."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.2f} MB"


def folded(sentence: str) -> str:
    """A sentence for standard output: on a terminal in lines that break between words, elsewhere in one."""
    if not sys.stdout.isatty():
        return sentence
    width = shutil.get_terminal_size().columns
    return textwrap.fill(sentence, width, break_long_words=False, break_on_hyphens=False)


def printable_value(value: Any) -> Any:
    """A JSON value with every text in it printable, the names of its fields among them."""
    match value:
        case str():
            return printable(value)
        case list():
            return [printable_value(each) for each in value]
        case dict():
            return {printable(name): printable_value(each) for name, each in value.items()}
        case _:
            return value
