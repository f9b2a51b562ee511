"""Where punie's own files are: beside the package in a checkout, in `punie/resources/` in a wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (PACKAGE / "resources", PACKAGE.parent)
"""Where the shipped folders are: in a wheel, and in a checkout."""


def resource(name: str) -> Path:
    """Absolute path of a shipped folder or file, such as ``conf`` or ``data/suites/core27.jsonl``.

    The package's own copy (a wheel) is looked for first, then the one beside the package (a source
    checkout or an editable install), so that punie works from any working folder.

    Raises:
        FileNotFoundError: Neither place has it: the installation is broken.
    """
    for root in PLACES:
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is in none of {PLACES}")
