"""The manifest of an artifact: what it was made from, and every file with its digest.

A manifest contains a digest of itself, so that a change to it is detected, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from punie.store.keys import digest, file_digest
from punie.util.files import flush

MANIFEST = "manifest.json"
_SCHEMA = 2
_UNSEALED = 1
"""Schema of manifests without a digest of their own."""


def write(folder: Path, values: Mapping[str, Any]) -> None:
    """Flush the files of a complete artifact to disk, and write its manifest: the values and its files."""
    path = folder / MANIFEST
    path.unlink(missing_ok=True)  # of a build that was killed before it was published
    text = json.dumps({"schema": _SCHEMA, **values, "files": _inventory(folder)}, allow_nan=False)
    manifest = json.loads(text)  # as it will be read: names are strings, tuples are lists
    manifest["digest"] = digest("manifest", manifest)
    with path.open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1, ensure_ascii=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(folder)


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest in a folder; None if it is missing, or not as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        return manifest if _is_manifest(manifest) and _is_sealed(manifest) else None
    except (OSError, ValueError, RecursionError):
        return None


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of files to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _inventory(folder: Path) -> Mapping[str, Mapping[str, object]]:
    """sha256 and size of every file below the folder, each flushed to disk first."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        flush(path)
        name = path.relative_to(folder).as_posix()
        files[name] = {"sha256": file_digest(path), "size": path.stat().st_size}
    return files


def _is_manifest(value: Any) -> bool:
    """Whether a value has the fields and types of a manifest."""
    match value:
        case {
            "stage": str(),
            "key": str(),
            "material": dict(),
            "files": dict(files),
            "created": str(created),
            "seconds": int() | float(),
            "info": dict(),
        }:
            dated = datetime.fromisoformat(created).tzinfo is not None
            return dated and all(_is_file(name, entry) for name, entry in files.items())
    return False


def _is_file(name: str, entry: Any) -> bool:
    """Whether an entry names a file below the folder, with digest and size."""
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts
    typed = isinstance(entry, dict) and isinstance(entry.get("sha256"), str)
    return inside and typed and isinstance(entry.get("size"), int)


def _is_sealed(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest has the digest it was written with; those of the first schema have none."""
    unsealed = {name: value for name, value in manifest.items() if name != "digest"}
    found = digest("manifest", unsealed)
    if manifest.get("schema") == _UNSEALED and "digest" not in manifest:
        return True
    return manifest.get("schema") == _SCHEMA and manifest.get("digest") == found
