"""Small files that are either whole or not there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp"
"""How the name of a file ends that is being written; it begins with a dot."""


def write_text(path: Path, text: str) -> None:
    """Write a text file by way of a temporary one beside it, so that no reader sees half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())  # or a crash of the machine could leave the name without the bytes
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all.

    Raises:
        ValueError: A float in it is not finite.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON Lines, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def flush(path: Path) -> None:
    """Have a file's bytes on the disk, whoever wrote them."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sweep(folder: Path) -> None:
    """Delete what killed processes were writing in a folder that nobody else writes to now."""
    for path in folder.glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)
