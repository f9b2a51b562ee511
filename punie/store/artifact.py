"""One published artifact: its files, its manifest, and whether both are as they were published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.store.keys import SHORT, artifact_key, file_digest
from punie.util.errors import StoreError

verified: set[Path] = set()
"""Artifacts whose digests this process has checked, or which it has written."""


@dataclass(frozen=True)
class Artifact:
    """One published artifact.

    Attributes:
        path: Its folder.
        manifest: ``stage``, ``key``, ``material`` (the inputs of the key), ``files`` (name to sha256 and size
            in bytes), ``created`` (UTC), ``seconds`` the build took, ``info`` from the stage.
    """

    path: Path
    manifest: Mapping[str, Any]

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
        own = [change for change in self.changes if not change[0].startswith("upstream/")]
        if not own:  # an earlier stage changed
            names = [name.removeprefix("upstream/") for name, *_ in self.changes]
            return f"{', '.join(names)} changed"
        shown = [f"{_field(name)} {_value(old)} → {_value(new)}" for name, old, new in own[:3]]
        more = len(own) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")


def _field(name: str) -> str:
    _, _, rest = name.partition("/")
    return rest.replace("/", ".") if rest else name


def _value(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:SHORT]
    return "unset" if value is None else str(value)
