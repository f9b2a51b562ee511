"""The content-addressed store: ``<root>/<stage>/<key>/`` holds one immutable artifact.

An artifact is complete and verified, or it is not there. It is written into a temporary folder on the same
filesystem, its files are flushed to disk, its manifest is written last, and the folder is renamed. A build
holds the lock of its key, so that the other processes wait for it, and the lock of its folder, so that it is
alone there even where somebody deleted the lock files.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from punie.store.artifact import MANIFEST, Artifact, Miss, read, verified, write_manifest
from punie.store.keys import artifact_key, differences
from punie.util import files
from punie.util.errors import StoreError
from punie.util.locks import empty_file, empty_folder, locked

__all__ = ["MANIFEST", "Artifact", "Miss", "Store"]

_NEAREST_LIMIT = 200
"""Artifacts that are compared to explain a miss."""
_TEMPORARY = re.compile(r"(?P<stage>.+)-(?P<key>[0-9a-f]{64})-(?P<suffix>.+)")
_PLACES = (".building", ".damaged", ".removed")
_RESUMABLE = "resumable"
_HOST = f".{socket.gethostname()}"
_SPACE = "free some space: punie store gc, or another store.dir"
_FOLDER = "choose a folder that can be written: store.dir=FOLDER"
_FLOCK = "choose a folder on a filesystem with flock: store.dir=FOLDER"
_REMEDIES = {errno.ENOSPC: _SPACE, errno.EDQUOT: _SPACE, errno.EROFS: _FOLDER, errno.EACCES: _FOLDER}
_REMEDIES |= dict.fromkeys((errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP), _FLOCK)


class Store:
    """The artifacts below one folder, which is made when the first is built."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    @property
    def locks(self) -> Path:
        """Folder of lock files, made if it is not there."""
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact of a key if names and sizes of its files are right, or None. Changes nothing."""
        artifact = read(self.root / stage / key)
        return None if artifact is None or artifact.damage(digests=False) else artifact

    def artifacts(self, stage: str | None = None) -> Iterator[Artifact]:
        """Every artifact that has a manifest, newest first within a stage."""
        return filter(None, map(read, self._folders(stage)))

    def unreadable(self, stage: str | None = None) -> list[Path]:
        """Folders that are named by a key and have no readable manifest."""
        return [
            path
            for path in self._folders(stage)
            if re.fullmatch("[0-9a-f]{64}", path.name) and read(path) is None and path.exists()
        ]

    def explain(self, stage: str, material: Mapping[str, Any]) -> Miss:
        """The difference to the nearest artifact of the stage, for a key that is not there."""
        found = [
            Miss(tuple(differences(artifact.manifest["material"], material)), artifact)
            for artifact in itertools.islice(self.artifacts(stage), _NEAREST_LIMIT)
        ]
        return min(found, key=lambda miss: len(miss.changes), default=Miss((), None))

    def get_or_build(
        self,
        stage: str,
        material: Mapping[str, Any],
        build: Callable[[Path], Mapping[str, Any] | None],
        *,
        resumable: bool = False,
    ) -> tuple[Artifact, bool]:
        """The artifact of this material, built if it is not there.

        The key is the hash of the material. ``build`` writes the artifact's files into the empty folder it
        is given, and returns what is recorded under ``info``. The folder of an interrupted ``resumable``
        build is given to the next one as it is.

        Returns:
            The artifact, and whether it was there already.

        Raises:
            StoreError: The store cannot be written.
        """
        key = artifact_key(material)
        if found := self._whole(stage, key):
            return found, True
        with contextlib.ExitStack() as held:
            held.enter_context(self.writing())
            held.enter_context(self._lock(stage, key))
            suffix = _RESUMABLE if resumable else _unique()
            folder = self.place(stage) / ".building" / f"{stage}-{key}-{suffix}"
            interrupted = self.root / ".building" / folder.name
            if interrupted.exists() and not folder.exists():
                _move(interrupted, folder)  # its stage was given a folder on another filesystem since
            held.enter_context(locked(folder, make=empty_folder))
            try:
                if found := self._whole(stage, key):  # of the process that had the lock
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                    return found, True
                self._sweep_dead(stage, key, folder)
                self._set_aside(stage, key, "damaged")
                started, clock = datetime.now(UTC), time.monotonic()
                info = build(folder) or {}
                files.sweep(folder)
                manifest = write_manifest(
                    folder,
                    stage=stage,
                    key=key,
                    material=material,
                    created=started.isoformat(timespec="seconds"),
                    seconds=round(time.monotonic() - clock, 3),
                    info=info,
                )
                target = self.root / stage / key
                target.parent.mkdir(exist_ok=True)
                try:
                    _publish(folder, target)
                except OSError:
                    if (found := self._whole(stage, key)) is None:
                        raise
                    shutil.rmtree(folder)
                    return found, True  # of a process that had the same lock: somebody deleted its file
                files.flush(target.parent)
            except BaseException:
                if not resumable:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
        verified.add(target)
        return Artifact(target, manifest), False

    def place(self, stage: str) -> Path:
        """The folder in which a stage is built: the store, or where ``train`` is a link to another disk or a
        mount, the stage's own folder.

        Raises:
            StoreError: Nothing could be published there.
        """
        folder = self.root / stage
        with self.writing():
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                raise StoreError(
                    "The stage has no folder in the store.",
                    where=folder,
                    found="a file, or a link to a folder that is not there",
                    next_step="make that folder, or delete the link",
                ) from None
            probe = folder / ".probe"
            probe.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process probes, too
                probe.rmdir()
        return self.root if folder.stat().st_dev == self.root.stat().st_dev else folder

    def set_aside(self, path: Path) -> Path | None:
        """Move the folder of a damaged artifact out of the way, so that it is rebuilt.

        Returns:
            Its new path; None if it was gone already.
        """
        stage, key = path.parent.name, path.name
        with self.writing(), self._lock(stage, key):
            return self._set_aside(stage, key, "damaged")

    def remove(self, artifact: Artifact) -> None:
        """Delete an artifact. It is renamed first, so that no reader sees half of it."""
        stage, key = artifact.path.parent.name, artifact.path.name
        with self.writing(), self._lock(stage, key):
            gone = self._set_aside(stage, key, "removed")
            if gone is not None:
                shutil.rmtree(gone)

    def leftovers(self, older_than_seconds: float = 0, stage: str | None = None) -> list[Path]:
        """Folders that no artifact uses: of killed builds, damaged ones set aside, half-deleted ones.

        A resumable build that was written to more recently is left out.
        """
        return [
            path
            for path, name in self._temporary()
            if stage in (None, name["stage"]) and _is_left(path, name, older_than_seconds)
        ]

    def sweep(self, older_than_seconds: float = 0, stage: str | None = None) -> list[Path]:
        """Delete the :meth:`leftovers` whose lock is free; returns the deleted ones."""
        swept = []
        for path, name in self._temporary():
            if stage in (None, name["stage"]):
                with contextlib.suppress(BlockingIOError, FileNotFoundError), self._unused(path, name):
                    if _is_left(path, name, older_than_seconds):
                        shutil.rmtree(path)
                        swept.append(path)
        return swept

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """Turn a full or read-only filesystem into a StoreError with the next step."""
        try:
            yield
        except OSError as error:
            if error.errno not in _REMEDIES:  # not about the store
                raise
            raise StoreError(
                f"The store cannot be written: {error.strerror}.",
                where=error.filename or self.root,
                next_step=_REMEDIES[error.errno],
            ) from error

    def _folders(self, stage: str | None) -> Iterator[Path]:
        """The folders of a stage, or of all stages, newest first within a stage."""
        stages = sorted(p for p in self._children(self.root) if p.name[0] != ".")
        for folder in [self.root / stage] if stage else stages:
            yield from sorted(self._children(folder), key=_written, reverse=True)

    def _temporary(self) -> Iterator[tuple[Path, re.Match[str]]]:
        """Folders of builds and deletions, each with the stage, key and suffix in its name."""
        stages = [path for path in self._children(self.root) if path.name[0] != "."]
        for place in (each / name for each in (self.root, *stages) for name in _PLACES):
            for path in self._children(place):
                if name := _TEMPORARY.fullmatch(path.name):
                    yield path, name

    def _whole(self, stage: str, key: str) -> Artifact | None:
        """The artifact of a key, with every digest checked once in this process; None if one is wrong."""
        artifact = self.find(stage, key)
        if artifact is None or (artifact.path not in verified and artifact.damage(digests=True)):
            return None
        return artifact

    def _children(self, folder: Path) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return [path for path in folder.iterdir() if path.is_dir()]
        return []

    def _lock(self, stage: str, key: str, *, wait: bool = True) -> contextlib.AbstractContextManager[None]:
        return locked(self.locks / f"{stage}-{key}.lock", make=empty_file, wait=wait)

    @contextlib.contextmanager
    def _unused(self, path: Path, name: re.Match[str]) -> Generator[None]:
        """Hold both locks of a temporary folder.

        Raises:
            BlockingIOError: Its build goes on.
            FileNotFoundError: Its build was resumed and published meanwhile.
        """
        with self._lock(name["stage"], name["key"], wait=False), locked(path, wait=False):
            yield

    def _sweep_dead(self, stage: str, key: str, mine: Path) -> None:
        """Delete what killed processes left: of this key, whose lock is held here, and of any other.

        Folders of other keys only if this host made them: locks may not reach another host, where the build
        may be running. A folder that cannot be deleted stays for the next build.
        """
        for path, name in self._temporary():
            if path == mine or name["suffix"] == _RESUMABLE or path.parent.name == ".damaged":
                continue
            if (name["stage"], name["key"]) == (stage, key):
                with contextlib.suppress(OSError), locked(path, wait=False):
                    shutil.rmtree(path)
            elif name["suffix"].endswith(_HOST):
                with contextlib.suppress(OSError), self._unused(path, name):
                    shutil.rmtree(path)

    def _set_aside(self, stage: str, key: str, why: str) -> Path | None:
        path = self.root / stage / key
        if not path.exists():
            return None
        verified.discard(path)
        target = self.root / f".{why}" / f"{stage}-{key}-{_unique()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            return path.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        near = path.parent / target.relative_to(self.root)  # the stage has a filesystem of its own
        near.parent.mkdir(parents=True, exist_ok=True)
        return path.rename(near)


def _publish(folder: Path, target: Path) -> None:
    """Give a complete folder its name, by a rename, or by a copy to another filesystem and a rename there."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        near = target.parent / ".building" / folder.name
        _move(folder, near)
        near.rename(target)


def _move(source: Path, folder: Path) -> None:
    """Move a build to another filesystem; it is whole in one of the two at any moment."""
    copy = folder.with_name(folder.name.removesuffix(_RESUMABLE) + _unique())
    shutil.copytree(source, copy)
    for path in (copy, *copy.rglob("*")):
        files.flush(path)
    copy.rename(folder)
    shutil.rmtree(source)


def _is_left(path: Path, name: re.Match[str], older_than_seconds: float) -> bool:
    """Whether a temporary folder is a leftover; a resumable one has to be that old."""
    return name["suffix"] != _RESUMABLE or time.time() - _last_written(path) >= older_than_seconds


def _unique() -> str:
    """The suffix of a temporary folder: unique, and with the name of the host."""
    return uuid.uuid4().hex[:8] + _HOST


def _written(path: Path) -> float:
    """When a file or folder was last written to; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _last_written(folder: Path) -> float:
    """When anything in a folder was last written to."""
    return max(_written(path) for path in (folder, *folder.rglob("*")))
