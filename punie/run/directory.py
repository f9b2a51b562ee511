"""The run directory: what a person opens after a run.

``config.yaml`` (resolved), ``provenance.json``, ``status.json``, ``train.jsonl``, ``samples.jsonl``,
``results.json``, ``report.md``, ``report.html`` and Hydra's own ``.hydra/``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from punie.results import files
from punie.results.records import Provenance, StageStatus, Status
from punie.results.run import CONFIG, PROVENANCE, RESULTS, STATUS, read_status
from punie.results.sweep import PLAN
from punie.run.capture import now
from punie.stages import COPIES
from punie.store.artifacts import Artifact
from punie.util.errors import PunieError
from punie.util.files import flush, write_text

LOCK = ".lock"
"""Held by the process that writes the folder."""


def require_free(folder: Path) -> None:
    """Refuse a folder that holds a finished run, a run that goes on, or a sweep.

    Raises:
        PunieError: It does; or its status cannot be read.
    """
    elsewhere = "another hydra.run.dir, or none: a run has its own folder; or delete this one first"
    found = None
    if is_locked(folder):
        found, elsewhere = "a run that is going on", "wait for its end, or give another hydra.run.dir"
    elif (folder / PLAN).exists():
        found = "a sweep"
    elif read_status(folder).status == "finished" or (
        (folder / RESULTS).exists() and not (folder / STATUS).exists()
    ):
        found = "a finished run"
    if found is not None:
        raise PunieError("The folder is not free.", where=folder, found=found, next_step=elsewhere)


def is_locked(folder: Path) -> bool:
    """Whether a process writes the folder, on any host that shares it."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


@contextlib.contextmanager
def writing(folder: Path) -> Generator[None]:
    """Hold a folder while a run is written into it, alone.

    Raises:
        PunieError: Another run is, or has finished there.
    """
    require_free(folder)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise PunieError(
            "Another run writes into this folder.",
            where=folder,
            next_step="wait for its end, or give another hydra.run.dir",
        ) from None


class RunDirectory:
    """One run's folder, which Hydra has made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._status = Status(version=Status.VERSION, status="running", started=now())

    def begin(self, config_yaml: str, provenance: Provenance, store: str) -> None:
        """Write what is known before the first stage; the store by its absolute path.

        What an earlier run left that did not finish is deleted: its files would be taken for this one's.
        """
        if (self.path / PROVENANCE).exists():
            for name in {RESULTS, *(name for names in COPIES.values() for name in names)}:
                stem, _, suffix = name.partition(".")
                for left in {self.path / name, *self.path.glob(f"{stem}-*.{suffix}")}:
                    left.unlink(missing_ok=True)
        write_text(self.path / CONFIG, config_yaml)
        files.write(self.path / PROVENANCE, provenance)
        self.note(pid=os.getpid(), store=str(Path(store).absolute()))

    def note(self, **changes: Any) -> None:
        """Write fields of status.json: the stage that is being built, the keys of what the run will use."""
        self._status = self._status.model_copy(update=changes)
        files.write(self.path / STATUS, self._status)

    def finish(
        self,
        status: str,
        record: Provenance,
        stages: Sequence[StageStatus],
        error: str | None = None,
        *,
        at: str | None = None,
    ) -> None:
        """Write the end; ``at`` is the stage that was being built then."""
        files.write(self.path / PROVENANCE, record)
        self.note(status=status, ended=now(), stages=list(stages), error=error, at=at)

    def collect(self, artifacts: Mapping[str, Artifact]) -> None:
        """Copy in the files that people read; the store keeps the weights.

        Responses of a target beside the one that counts get its name: ``samples-base.jsonl``.
        """
        for step, artifact in artifacts.items():
            stage, _, target = step.partition(":")
            for name in COPIES.get(stage, ()):
                if name in artifact.manifest["files"]:
                    stem, _, suffix = name.partition(".")
                    copy = f"{stem}-{target}.{suffix}" if target else name
                    shutil.copyfile(artifact.file(name), self.path / copy)
                    flush(self.path / copy)  # before the status that vouches for it
