"""Thoughts before a response: the marks that open and close them, by model family."""

from __future__ import annotations

_MARKS = {
    "<think>": "</think>",
    "<seed:think>": "</seed:think>",
    "<mm:think>": "</mm:think>",
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought": "<channel|>",
    "<|channel|>analysis<|message|>": "<|end|>",
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",
}


def skip_thoughts(text: str, mark: str) -> tuple[int, bool]:
    """Where the response starts after its thought, and whether the thought never ends.

    A prompt may open the thought itself, so a close without an open counts if it stands before a mark.

    Args:
        text: The response.
        mark: The text that shows that a call follows.
    """
    beginning = text[:100].lstrip()
    call = text.find(mark)
    for opens, closes in _MARKS.items():
        opened = beginning.startswith(opens)
        close = text.find(closes) if opened or closes.startswith("</") or closes.startswith("[/") else -1
        if close >= 0 and (opened or call < 0 or close < call):
            return close + len(closes), False
        if opened:
            return len(text), True
    return 0, False
