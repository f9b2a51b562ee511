"""Locates punie's own files: beside the package in a checkout, in `punie/resources/` in a wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (PACKAGE / "resources", PACKAGE.parent)
"""Where the shipped folders are: in a wheel, and in a checkout."""


def resource(name: str) -> Path:
    """Absolute path of a shipped folder or file, such as ``conf`` or ``data/suites/core27.jsonl``.

    Raises:
        FileNotFoundError: The installation is broken.
    """
    for root in PLACES:
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is in none of {PLACES}")
