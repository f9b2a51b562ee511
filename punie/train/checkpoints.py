"""Checkpoints: everything a training needs to continue with the same result.

A checkpoint is a folder ``<iteration>/`` with the adapter in mlx-lm's format, ``resume.safetensors``
(optimizer state, accumulated gradient) and ``resume.json`` with the digests of these files. It is written
under a hidden name and renamed, so that it is complete or not there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import mlx.core as mx

from punie.model.load import save_arrays
from punie.store.keys import file_digest
from punie.train import adapter
from punie.util.errors import PunieError
from punie.util.files import flush, write_json

ARRAYS = "resume.safetensors"
STATE = "resume.json"


class Checkpoints:
    """The checkpoints of one training, in a folder; one with another ``identity`` is refused."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def path(self, it: int) -> Path:
        """The folder of an iteration's checkpoint."""
        return self.folder / f"{it:07d}"

    def save(
        self,
        it: int,
        save_adapter: Callable[[Path], None],
        *,
        arrays: dict[str, mx.array],
        state: dict[str, Any],
    ) -> None:
        """Publish the checkpoint of ``it`` completed iterations; ``state`` holds JSON values."""
        self._clear()
        scratch = self.folder / f".{it:07d}"
        scratch.mkdir(parents=True)
        save_adapter(scratch)
        save_arrays(scratch / ARRAYS, arrays)
        files = {name: file_digest(scratch / name) for name in (adapter.WEIGHTS, adapter.CONFIG, ARRAYS)}
        write_json(scratch / STATE, {"iter": it, "identity": self.identity, "files": files, **state})
        for path in scratch.iterdir():
            flush(path)
        shutil.rmtree(self.path(it), ignore_errors=True)
        scratch.rename(self.path(it))

    def newest(self) -> tuple[dict[str, Any], dict[str, mx.array], Path] | None:
        """State, arrays and folder of the newest intact checkpoint; damaged ones are passed over.

        Raises:
            PunieError: It belongs to a training with other data, base or settings.
        """
        for path in reversed(self._all()):
            state = _intact(path)
            if state is None:
                continue
            if state["identity"] != self.identity:
                raise PunieError(
                    "The checkpoint belongs to another training.",
                    where=path,
                    found=f"identity {state['identity'][:12]}",
                    expected=f"identity {self.identity[:12]} of this data, base and settings",
                    next_step=f"delete {self.folder} to start again",
                )
            arrays = mx.load(str(path / ARRAYS))
            return state, arrays if isinstance(arrays, dict) else {}, path
        return None

    def thin(self, keep: int, spare: Collection[int]) -> None:
        """Delete all but the newest ``keep`` checkpoints and the spared iterations."""
        for path in self._all()[:-keep]:
            if path not in map(self.path, spare):
                shutil.rmtree(path)

    def finish(self) -> None:
        """Delete what only a resumption needs."""
        self._clear()
        for path in self._all():
            for name in (ARRAYS, STATE):
                (path / name).unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self.folder.glob("[0-9]*") if path.is_dir())

    def _clear(self) -> None:
        """Delete what a killed process was writing."""
        for leftover in self.folder.glob(".*"):
            shutil.rmtree(leftover)


def _intact(path: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((path / STATE).read_text())
        digests = {name: file_digest(path / name) for name in state["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return state if digests == state["files"] else None
