"""One published artifact: its files, its manifest, and whether both are as they were published.

A manifest says what the artifact was made from and lists every file with its digest. It contains a digest of
itself, so that a change to it is detected, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from punie.store.keys import SHORT, artifact_key, digest, file_digest
from punie.util.errors import StoreError
from punie.util.files import flush, write_json
from punie.util.jsonl import excerpt

_LONG = 60
"""Characters of a value that a reason shows."""
_FILES = 3
"""Files that it names."""
MANIFEST = "manifest.json"
_SCHEMA = 2
_UNSEALED = 1
"""Schema of manifests without a digest of their own."""
verified: set[Path] = set()
"""Artifacts whose digests this process has checked, or which it has written."""


@dataclass(frozen=True)
class Artifact:
    """One published artifact."""

    path: Path
    manifest: Mapping[str, Any]
    """``stage``, ``key``, ``material`` (the inputs of the key), ``files`` (name to sha256 and size in bytes),
    ``created`` (UTC), ``seconds`` the build took, ``info`` from the stage."""

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self.manifest["stage"]

    @property
    def key(self) -> str:
        """Its key, 64 hex digits."""
        return self.manifest["key"]

    @property
    def info(self) -> Mapping[str, Any]:
        """What the stage recorded about it."""
        return self.manifest["info"]

    @property
    def size(self) -> int:
        """Bytes on disk, without the manifest."""
        return sum(entry["size"] for entry in self.manifest["files"].values())

    @property
    def digests(self) -> dict[str, str]:
        """File name to sha256."""
        return {name: entry["sha256"] for name, entry in self.manifest["files"].items()}

    def file(self, name: str) -> Path:
        """Path of one of its files. The artifact is verified once per process.

        Raises:
            StoreError: The artifact has no such file, or is damaged.
        """
        if name not in self.manifest["files"]:
            raise StoreError(f"The {self.stage} artifact has no file {name}.", where=self.path)
        self.verify_once()
        return self.path / name

    def verify_once(self) -> None:
        """Check every digest, the first time this process uses the artifact.

        Raises:
            StoreError: A file is missing or changed.
        """
        if self.path not in verified and (damage := self.damage(digests=True)):
            raise StoreError(
                f"The {self.stage} artifact is damaged: {damage}.",
                where=self.path,
                next_step="run again: it is set aside and rebuilt; punie store verify checks the rest",
            )

    def damage(self, *, digests: bool) -> str | None:
        """The first thing that is wrong with it, or None; without ``digests`` by names and sizes."""
        if artifact_key(self.manifest["material"]) != self.key or self.path.name != self.key:
            return "its key is not that of its material"
        for name, entry in self.manifest["files"].items():
            path = self.path / name
            try:
                size = path.stat().st_size
                if size != entry["size"]:
                    return f"{name} has {size} bytes instead of {entry['size']}"
                if digests and file_digest(path) != entry["sha256"]:
                    return f"{name} does not have the bytes that were published"
            except OSError as error:
                return f"{name}: {error.strerror}"
        if digests:
            verified.add(self.path)
        return None


def write_manifest(folder: Path, **values: Any) -> dict[str, Any]:
    """Flush the files of a complete artifact to disk, and write its manifest: the values and its files."""
    (folder / MANIFEST).unlink(missing_ok=True)  # of a build that was killed before it was published
    text = json.dumps({"schema": _SCHEMA, **values, "files": _inventory(folder)}, allow_nan=False)
    manifest = json.loads(text)  # as it will be read: names are strings, tuples are lists
    manifest["digest"] = digest("manifest", manifest)
    write_json(folder / MANIFEST, manifest)
    flush(folder)
    return manifest


def read(folder: Path) -> Artifact | None:
    """The artifact in a folder; None if its manifest is missing, or not as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        return Artifact(folder, manifest) if _is_manifest(manifest) and _is_sealed(manifest) else None
    except (OSError, ValueError, RecursionError):
        return None


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


@dataclass(frozen=True)
class Miss:
    """Why a key is not in the store."""

    changes: tuple[tuple[str, Any, Any], ...]
    """Field, old and new value, compared to the nearest artifact of the stage."""
    nearest: Artifact | None

    def __str__(self) -> str:
        if self.nearest is None:
            return "nothing built yet"
        if not self.changes:
            return "what was built is damaged"
        if sources := [change for change in self.changes if change[0].partition("/")[0] == "sources"]:
            names = _files(*sources)
            more = f" and {len(names) - _FILES} more" if len(names) > _FILES else ""
            return f"punie's own sources differ: {', '.join(names[:_FILES])}{more}"
        own = [change for change in self.changes if not change[0].startswith("upstream/")]
        if not own:  # an earlier stage changed
            names = [name.removeprefix("upstream/") for name, *_ in self.changes]
            return f"{', '.join(names)} changed"
        shown = [f"{_field(name)} {_value(old)} → {_value(new)}" for name, old, new in own[:3]]
        more = len(own) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")


def _files(*changes: tuple[str, Any, Any]) -> list[str]:
    """The files of edited sources; where one of two keys has none, the change is the whole group."""
    return [
        file
        for name, old, new in changes
        for file in ([name.removeprefix("sources/")] if "/" in name else [*(old or {}), *(new or {})])
    ]


def _field(name: str) -> str:
    _, _, rest = name.partition("/")
    return rest.replace("/", ".") if rest else name


def _value(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:SHORT]
    return "unset" if value is None else excerpt(str(value), _LONG)
