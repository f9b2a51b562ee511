"""The content-addressed store: ``<root>/<stage>/<key>/`` holds one immutable artifact.

An artifact is complete and verified, or it is not there. It is written into a temporary folder on the
same filesystem, its files are flushed to disk, its manifest is written last, and the folder is renamed
into place. Who builds a key holds that key's lock, an OS file lock that vanishes with its process.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.store import manifest
from punie.store.keys import SHORT, artifact_key, differences, file_digest
from punie.store.manifest import MANIFEST
from punie.util import files
from punie.util.errors import StoreError

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["MANIFEST", "Artifact", "Miss", "Store"]

_NEAREST_LIMIT = 200
_LEFTOVER = re.compile(r"(?P<stage>.+)-(?P<key>[0-9a-f]{64})-(?P<suffix>.+)")
_RESUMABLE = "resumable"
_verified: set[Path] = set()


@dataclass(frozen=True)
class Artifact:
    """One published artifact.

    Attributes:
        path: Its folder.
        manifest: ``stage``, ``key``, ``material`` (what the key is made of), ``files`` (name to sha256
            and size in bytes), ``created`` (UTC), ``seconds`` it took, ``info`` from the stage.
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

    def file(self, name: str) -> Path:
        """Path of one of its files, verified once in this process.

        Raises:
            StoreError: The artifact has no such file, or its bytes are not those that were published.
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
        if self.path in _verified:
            return
        if damage := self.damage(digests=True):
            raise StoreError(
                f"The {self.stage} artifact is damaged: {damage}.",
                where=self.path,
                next_step="run again: it is set aside and rebuilt; punie store verify checks the rest",
            )

    def damage(self, *, digests: bool) -> str | None:
        """What is wrong with it, or None.

        Args:
            digests: Read every byte; otherwise only names and sizes are compared. What was read and
                found whole is not read again by this process's :meth:`verify_once`.
        """
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
            _verified.add(self.path)
        return None


@dataclass(frozen=True)
class Miss:
    """Why a key is not in the store."""

    changes: tuple[tuple[str, Any, Any], ...]
    """Field, old and new value, against the nearest artifact of the stage."""
    nearest: Artifact | None

    def __str__(self) -> str:
        if self.nearest is None:
            return "nothing built yet"
        if not self.changes:
            return "what was built is damaged"
        own = [change for change in self.changes if not change[0].startswith("upstream/")]
        if not own:  # what changed is further up
            names = [name.removeprefix("upstream/") for name, *_ in self.changes]
            return f"{', '.join(names)} changed"
        shown = [f"{_field(name)} {_value(old)} → {_value(new)}" for name, old, new in own[:3]]
        more = len(own) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")


class Store:
    """The artifacts below one folder.

    Args:
        root: The folder; it is made when the first artifact is built.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    def find(self, stage: str, key: str) -> Artifact | None:
        """The whole artifact of a key, checked by name and size, or None. Changes nothing."""
        artifact = self._read(self.root / stage / key)
        return None if artifact is None or artifact.damage(digests=False) else artifact

    def artifacts(self, stage: str | None = None) -> Iterator[Artifact]:
        """Every artifact that has a manifest, newest first within a stage."""
        for path in self._folders(stage):
            if (artifact := self._read(path)) is not None:
                yield artifact

    def unreadable(self, stage: str | None = None) -> list[Path]:
        """Folders that are named by a key and have no manifest that can be read."""
        return [
            path
            for path in self._folders(stage)
            if re.fullmatch("[0-9a-f]{64}", path.name) and self._read(path) is None and path.exists()
        ]

    def explain(self, stage: str, material: Mapping[str, Any]) -> Miss:
        """What differs from the nearest artifact of the stage, for a key that is not there."""
        best: Miss = Miss((), None)
        for count, artifact in enumerate(self.artifacts(stage)):
            if count == _NEAREST_LIMIT:
                break
            changes = tuple(differences(artifact.manifest["material"], material))
            if best.nearest is None or len(changes) < len(best.changes):
                best = Miss(changes, artifact)
        return best

    def get_or_build(
        self,
        stage: str,
        material: Mapping[str, Any],
        build: Callable[[Path], Mapping[str, Any] | None],
        *,
        resumable: bool = False,
    ) -> tuple[Artifact, bool]:
        """The artifact of this material, built if it is not there.

        Args:
            stage: The stage's name.
            material: All that decides the result; its hash is the key.
            build: Writes the artifact's files into the empty folder it is given, and returns what is
                to be recorded under ``info``.
            resumable: The folder of an interrupted build is kept, and given to the next one as it is.

        Returns:
            The artifact, and whether it was there already.

        Raises:
            StoreError: The store cannot be written.
        """
        key = artifact_key(material)
        if found := self._whole(stage, key):
            return found, True
        with self.writing(), self._lock(stage, key):
            if found := self._whole(stage, key):
                return found, True
            self._sweep_dead(stage, key)
            self._set_aside(stage, key, "damaged")
            suffix = _RESUMABLE if resumable else _unique()
            folder = self.root / ".building" / f"{stage}-{key}-{suffix}"
            folder.mkdir(parents=True, exist_ok=resumable)
            try:
                started, clock = datetime.now(UTC), time.monotonic()
                info = build(folder) or {}
                files.sweep(folder)
                manifest.write(
                    folder,
                    {
                        "stage": stage,
                        "key": key,
                        "material": material,
                        "created": started.isoformat(timespec="seconds"),
                        "seconds": round(time.monotonic() - clock, 3),
                        "info": info,
                    },
                )
                target = self.root / stage / key
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(target)
                manifest.sync_folder(target.parent)
            except BaseException:
                if not resumable:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
        artifact = self._read(target)
        if artifact is None:
            raise StoreError("An artifact vanished right after it was published.", where=target)
        _verified.add(target)
        return artifact, False

    def set_aside(self, damaged: Artifact | Path) -> Path | None:
        """Move a damaged artifact, or its folder, out of the way, so that it is rebuilt.

        Returns:
            Where it went; None if it was gone already.
        """
        path = damaged.path if isinstance(damaged, Artifact) else damaged
        stage, key = path.parent.name, path.name  # its manifest may claim to be another's
        with self.writing(), self._lock(stage, key):
            return self._set_aside(stage, key, "damaged")

    def remove(self, artifact: Artifact) -> None:
        """Delete an artifact; half of it is never seen, since it is renamed away first."""
        stage, key = artifact.path.parent.name, artifact.path.name
        with self.writing(), self._lock(stage, key):
            gone = self._set_aside(stage, key, "removed")
            if gone is not None:
                shutil.rmtree(gone)

    def leftovers(self, older_than_seconds: float = 0, stage: str | None = None) -> list[Path]:
        """Folders that no artifact uses: of killed builds, damaged ones set aside, half-deleted ones.

        Args:
            older_than_seconds: A build that can be resumed counts from this age on, since it was last
                written to; the others are of no use at any age.
            stage: Only this stage's.
        """
        found = []
        for place in (".building", ".damaged", ".removed"):
            for path in self._children(self.root / place):
                name = _LEFTOVER.fullmatch(path.name)
                if name is None or stage not in (None, name["stage"]):
                    continue
                if name["suffix"] != _RESUMABLE or time.time() - _last_written(path) >= older_than_seconds:
                    found.append(path)
        return found

    def sweep(self, older_than_seconds: float = 0, stage: str | None = None) -> list[Path]:
        """Delete the :meth:`leftovers` whose lock is free; returns what was deleted."""
        swept = []
        for path in self.leftovers(older_than_seconds, stage):
            name = _LEFTOVER.fullmatch(path.name)
            assert name is not None  # noqa: S101 - leftovers have such names
            with contextlib.suppress(TimeoutError), self._lock(name["stage"], name["key"], wait=False):
                if path.exists():  # else its build was resumed and published meanwhile
                    shutil.rmtree(path)
                    swept.append(path)
        return swept

    def _folders(self, stage: str | None) -> Iterator[Path]:
        """The folders of a stage, or of each, newest first within a stage."""
        stages = sorted(p for p in self._children(self.root) if p.name[0] != ".")
        for folder in [self.root / stage] if stage else stages:
            yield from sorted(self._children(folder), key=_written, reverse=True)

    def _read(self, path: Path) -> Artifact | None:
        found = manifest.read(path)
        return None if found is None else Artifact(path, found)

    def _whole(self, stage: str, key: str) -> Artifact | None:
        """The artifact of a key, every byte of it checked once in this process; None where one is wrong."""
        artifact = self.find(stage, key)
        if artifact is None or (artifact.path not in _verified and artifact.damage(digests=True)):
            return None
        return artifact

    def _children(self, folder: Path) -> list[Path]:
        try:
            return [path for path in folder.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return []

    def _lock(self, stage: str, key: str, *, wait: bool = True) -> FileLock:
        from filelock import FileLock

        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{stage}-{key}.lock", timeout=-1 if wait else 0)

    def _sweep_dead(self, stage: str, key: str) -> None:
        """Delete what killed processes left, of this key, whose lock is held here, and of any other.

        Of other keys only what this host left: where locks do not reach another host, its build may be
        running. A folder that cannot be deleted now is no hindrance; the next build tries again.
        """
        for path in [*self._children(self.root / ".building"), *self._children(self.root / ".removed")]:
            name = _LEFTOVER.fullmatch(path.name)
            if name is None or name["suffix"] == _RESUMABLE:
                continue
            if (name["stage"], name["key"]) == (stage, key):
                shutil.rmtree(path, ignore_errors=True)
                continue
            if not name["suffix"].endswith(_host()):
                continue
            with contextlib.suppress(OSError), self._lock(name["stage"], name["key"], wait=False):
                shutil.rmtree(path)

    def _set_aside(self, stage: str, key: str, why: str) -> Path | None:
        path = self.root / stage / key
        if not path.exists():
            return None
        target = self.root / f".{why}" / f"{stage}-{key}-{_unique()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        _verified.discard(path)
        return target

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """Turns a refusal of the filesystem into an error for people."""
        try:
            yield
        except OSError as error:
            remedies = {
                "ENOSPC": "free some space: punie store gc, or another store.dir",
                "EDQUOT": "free some space: punie store gc, or another store.dir",
                "EROFS": "choose a folder that can be written: store.dir=FOLDER",
                "EACCES": "choose a folder that can be written: store.dir=FOLDER",
            }
            name = errno.errorcode.get(error.errno or 0, "")
            if name not in remedies:  # of something that was read, and says so itself
                raise
            raise StoreError(
                f"The store cannot be written: {error.strerror}.",
                where=error.filename or self.root,
                next_step=remedies[name],
            ) from error


def _unique() -> str:
    """The end of a temporary folder's name: of no other, and telling the host."""
    return uuid.uuid4().hex[:8] + _host()


def _host() -> str:
    return f".{socket.gethostname()}"


def _written(path: Path) -> float:
    """When a file or folder was last written to; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _last_written(folder: Path) -> float:
    """When anything in a folder was last written to."""
    return max(_written(path) for path in (folder, *folder.rglob("*")))


def _field(name: str) -> str:
    _, _, rest = name.partition("/")
    return rest.replace("/", ".") if rest else name


def _value(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:SHORT]
    return "unset" if value is None else str(value)
