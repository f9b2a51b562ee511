"""The run directory: what a person opens after a run.

``config.yaml`` (resolved), ``provenance.json``, ``status.json``, ``train.jsonl``, ``samples.jsonl``,
``results.json``, ``report.md``, ``report.html`` and Hydra's own ``.hydra/``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from punie.run.capture import now
from punie.stages import STAGES
from punie.store.artifacts import Artifact
from punie.util.files import flush, write_json, write_text

COPIES = {stage.name: stage.shows for stage in STAGES if stage.shows}
"""The files a run directory takes from the store, by stage."""


class RunDirectory:
    """One run's folder.

    Args:
        path: The folder; Hydra has made it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._status: dict[str, Any] = {"schema": 1, "status": "running", "started": now(), "stages": []}

    def begin(self, config_yaml: str, provenance: Mapping[str, Any], store: str | None = None) -> None:
        """Write what is known before the first stage.

        Args:
            config_yaml: The resolved config.
            provenance: The record so far.
            store: Folder of the store; its absolute path is recorded, for whoever comes from elsewhere.
        """
        self._status["pid"] = os.getpid()
        self._status["store"] = None if store is None else str(Path(store).absolute())
        write_text(self.path / "config.yaml", config_yaml)
        write_json(self.path / "provenance.json", provenance)
        self._write_status()

    def uses(self, keys: Iterable[str]) -> None:
        """Write the keys of what the run will use, so that ``punie store gc`` keeps it."""
        self._status["uses"] = sorted(keys)
        self._write_status()

    def at(self, stage: str) -> None:
        """Write which stage is being built now."""
        self._status["at"] = stage
        self._write_status()

    def finish(
        self,
        status: str,
        provenance: Mapping[str, Any],
        stages: list[dict[str, Any]],
        error: str | None = None,
        at: str | None = None,
    ) -> None:
        """Write the end.

        Args:
            status: ``finished``, ``failed`` or ``interrupted``.
            provenance: The completed record.
            stages: Name, key, reuse, reason and seconds of each stage that was reached.
            error: What went wrong.
            at: The stage that was being built then.
        """
        write_json(self.path / "provenance.json", provenance)
        self._status |= {"status": status, "ended": now(), "stages": stages, "error": error, "at": at}
        self._write_status()

    def collect(self, artifacts: Mapping[str, Artifact]) -> None:
        """Copy in the files that people read; the store keeps the weights.

        Answers of a target beside the one that counts get its name: ``samples-base.jsonl``.
        """
        for step, artifact in artifacts.items():
            stage, _, target = step.partition(":")
            for name in COPIES.get(stage, ()):
                if name in artifact.manifest["files"]:
                    stem, _, suffix = name.partition(".")
                    copy = f"{stem}-{target}.{suffix}" if target else name
                    shutil.copyfile(artifact.file(name), self.path / copy)
                    flush(self.path / copy)  # before the status that vouches for it

    def _write_status(self) -> None:
        write_json(self.path / "status.json", self._status)
