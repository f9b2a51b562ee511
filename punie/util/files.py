"""Small files, written atomically."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from punie.util.errors import PunieError
from punie.util.printable import in_bytes

TEMPORARY = ".tmp"
"""Ending of the name of a file that is being written; the name begins with a dot."""


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: a temporary file beside it, fsync, rename. It gets the umask's mode."""
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        with scratch.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())  # before the rename, so that a machine crash cannot leave an empty file
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically.

    Raises:
        ValueError: A float in it is not finite.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON Lines, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def flush(path: Path) -> None:
    """Write a file's bytes, or a folder's list of files, through to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def disk_shortage(folder: Path, needed: int, purpose: str) -> PunieError | None:
    """The error if a folder's disk has less than the needed bytes free."""
    free = free_bytes(folder)
    if needed <= free:
        return None
    return PunieError(
        "There is not enough free disk.",
        where=folder,
        found=f"{in_bytes(free)} free",
        expected=f"{in_bytes(needed)} for {purpose}",
        next_step="punie store gc, or another disk: store.dir=FOLDER",
    )


def sweep(folder: Path) -> None:
    """Delete the temporary files of killed processes; no other process may write to the folder meanwhile."""
    for path in folder.glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)
