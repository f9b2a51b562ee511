"""The ways an answer may open its wrapper: what the format lock is the probability of.

The parser accepts any white space between the tags. These are the spellings worth a branch each; the
probability of any other adds to the lock, so what is summed over these is a lower bound of it.
"""

from __future__ import annotations

from typing import Final

from punie.formats.tools import EXECUTE_CODE, wrap

CANONICAL: Final = "canonical"
"""The spelling that training teaches, at the very start of the answer: the strict lock."""

_XML = wrap("").partition("\n\n")[0]
_JSON = f'<tool_call>\n{{"name": "{EXECUTE_CODE}"'

SPELLINGS: Final[dict[str, str]] = {
    CANONICAL: _XML,
    "no line breaks": _XML.replace("\n", ""),
    "JSON": _JSON,
    "JSON, no line break": _JSON.replace("\n", ""),
    "after a line break": f"\n{_XML}",
    "after an empty thought": f"<think>\n\n</think>\n\n{_XML}",
}
"""Name to text, up to where nothing but ``execute_code`` can be meant. None is the beginning of another."""


def opening(answer: str) -> str | None:
    """The name of the spelling that an answer opens with, or None."""
    return next((name for name, text in SPELLINGS.items() if answer.startswith(text)), None)
