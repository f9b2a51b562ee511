"""The README of a generated folder: a few sentences, and the record of what the folder was generated from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from punie.store.keys import file_digest
from punie.util.files import write_text

README = "README.md"
_FENCE = "```"


def write_card(folder: Path, text: str, made_from: Mapping[str, Any]) -> None:
    """Write the card of a folder that is complete otherwise: a text, and the record with file digests."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != README)
    record = {**made_from, "sha256": {path.name: file_digest(path) for path in files}}
    write_text(folder / README, f"{text}\n{_FENCE}json\n{json.dumps(record, indent=1)}\n{_FENCE}\n")


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record on the card of a folder, or None where there is none."""
    try:
        text = (folder / README).read_text(encoding="utf-8")
        return json.loads(text.split(f"{_FENCE}json\n")[1].split(_FENCE)[0])
    except (OSError, IndexError, ValueError):
        return None


def contradicts(built: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> bool:
    """Whether two folders made from the same recipe, seed, libraries and machine have different files."""
    if earlier is None or any(built[key] != earlier.get(key) for key in built if key != "sha256"):
        return False
    return built["sha256"] != earlier.get("sha256")
