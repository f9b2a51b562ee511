"""Checkpoints: all that a training needs to go on as if it had never stopped.

A checkpoint is a folder ``<iteration>/`` with the adapter in mlx-lm's format, ``resume.safetensors``
(optimizer state, a gradient that is still being summed) and, naming the digests of
both, ``resume.json``. It is written under another name and renamed, so a folder is whole or not there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx

from punie.model.arrays import save_arrays
from punie.store.keys import file_digest
from punie.train import adapter
from punie.util.errors import PunieError
from punie.util.files import flush, write_json

ARRAYS = "resume.safetensors"
STATE = "resume.json"


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: Where they live.
        identity: What the training is a function of, as a digest; a checkpoint of another is refused.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def path(self, it: int) -> Path:
        """The folder of an iteration's checkpoint."""
        return self.folder / f"{it:07d}"

    def save(
        self,
        it: int,
        save_adapter: Callable[[Path], None],
        arrays: dict[str, mx.array],
        state: dict[str, Any],
    ) -> None:
        """Publish the checkpoint of an iteration.

        Args:
            it: Iterations done.
            save_adapter: Writes the adapter into a folder.
            arrays: Optimizer state and the like.
            state: Counters, as JSON values.
        """
        for leftover in self.folder.glob(".*"):  # of a save that was killed
            shutil.rmtree(leftover)
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
        """The newest whole checkpoint: its state, its arrays and its folder. Broken ones are passed over.

        Raises:
            PunieError: It belongs to a training with other data, base or settings.
        """
        for path in sorted(self._all(), reverse=True):
            state = _whole(path)
            if state is None:
                continue
            if state["identity"] != self.identity:
                raise PunieError(
                    "The checkpoint belongs to another training.",
                    where=path,
                    found=f"identity {state['identity'][:12]}",
                    expected=f"identity {self.identity[:12]} of this data, base and settings",
                    next_step=f"delete {self.folder} to start anew",
                )
            arrays = mx.load(str(path / ARRAYS))
            return state, arrays if isinstance(arrays, dict) else {}, path
        return None

    def thin(self, keep: int, spare: Iterable[int]) -> None:
        """Delete all but the newest ``keep`` checkpoints and the spared iterations."""
        spared = {self.path(it) for it in spare}
        for path in sorted(self._all())[:-keep]:
            if path not in spared:
                shutil.rmtree(path)

    def finish(self) -> None:
        """Drop what only a resumption needs, and what a killed save left."""
        for leftover in self.folder.glob(".*"):
            shutil.rmtree(leftover)
        for path in self._all():
            (path / ARRAYS).unlink(missing_ok=True)
            (path / STATE).unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        return [path for path in self.folder.glob("[0-9]*") if path.is_dir()] if self.folder.exists() else []


def _whole(path: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((path / STATE).read_text())
        digests = {name: file_digest(path / name) for name in state["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return state if digests == state["files"] else None
