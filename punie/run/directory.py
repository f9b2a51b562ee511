"""The run directory: what a person opens after a run.

``config.yaml`` (resolved), ``provenance.json``, ``status.json``, ``train.jsonl``, ``samples.jsonl``,
``results.json``, ``report.md``, ``report.html`` and Hydra's own ``.hydra/``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
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

    def begin(self, config_yaml: str, provenance: Provenance, store: str) -> None:
        """Write what is known before the first stage; the store by its absolute path."""
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
