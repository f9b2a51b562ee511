"""The targets of an evaluation: which stages each is built by, and which of them it is loaded from."""

from __future__ import annotations

from typing import NamedTuple

DECIDING = ("base", "train", "quantize", "evaluate")
"""The stages that decide a score, in running order. Preflight only checks, and the report only shows."""


class Target(NamedTuple):
    """What an evaluation can be of."""

    built: tuple[str, ...]
    """The stages behind it, in running order."""
    loads: tuple[str, ...]
    """Those whose artifacts are loaded: an adapter goes onto its base, a quantized model is whole."""


TARGETS = {
    "base": Target(DECIDING[:1], ("base",)),
    "adapter": Target(DECIDING[:2], ("base", "train")),
    "quantized": Target(DECIDING[:3], ("quantize",)),
}
"""By ``eval.target``."""
