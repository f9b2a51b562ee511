"""The run directory: what a person opens after a run.

``config.yaml`` (resolved), ``provenance.json``, ``status.json``, ``train.jsonl``, ``samples.jsonl``,
``results.json``, ``report.md``, ``report.html`` and Hydra's own ``.hydra/``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from punie.results import files
from punie.results.records import Provenance, StageStatus, Status
from punie.results.run import CONFIG, PROVENANCE, STATUS
from punie.run.capture import now
from punie.stages import COPIES
from punie.store.artifacts import Artifact
from punie.util.files import flush, write_text


class RunDirectory:
    """One run's folder, which Hydra has made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._status = Status(version=Status.VERSION, status="running", started=now())

    def begin(self, config_yaml: str, provenance: Provenance, store: str | None = None) -> None:
        """Write what is known before the first stage; the store by its absolute path."""
        write_text(self.path / CONFIG, config_yaml)
        files.write(self.path / PROVENANCE, provenance)
        self._write(pid=os.getpid(), store=None if store is None else str(Path(store).absolute()))

    def uses(self, keys: Iterable[str]) -> None:
        """Write the keys of what the run will use, so that ``punie store gc`` keeps it."""
        self._write(uses=sorted(keys))

    def at(self, stage: str) -> None:
        """Write which stage is being built now."""
        self._write(at=stage)

    def finish(
        self,
        status: str,
        provenance: Provenance,
        stages: Sequence[StageStatus],
        error: str | None = None,
        at: str | None = None,
    ) -> None:
        """Write the end; ``at`` is the stage that was being built then."""
        files.write(self.path / PROVENANCE, provenance)
        self._write(status=status, ended=now(), stages=list(stages), error=error, at=at)

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

    def _write(self, **changes: Any) -> None:
        self._status = self._status.model_copy(update=changes)
        files.write(self.path / STATUS, self._status)
