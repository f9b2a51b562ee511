"""``train.jsonl``: the metrics of a training, a JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path

from punie.train.callbacks import Callback, Record
from punie.util.files import flush

NAME = "train.jsonl"
"""In an artifact of ``train`` and in a run directory."""


class MetricsFile(Callback):
    """Appends each record to a folder's ``train.jsonl``, part of the artifact: its errors count."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._stream = self.path.open("a")

    def metrics(self, record: Record) -> None:
        """Append a record.

        Raises:
            ValueError: A figure is not finite.
        """
        self._stream.write(json.dumps(record, allow_nan=False) + "\n")
        self._stream.flush()

    def position(self) -> int:
        """Length of the file in bytes, all of them flushed to the disk; what a checkpoint records."""
        flush(self.path)
        return self._stream.tell()

    def cut(self, position: int) -> None:
        """Go back to a checkpoint: delete what was written after it."""
        self._stream.truncate(position)
        self._stream.seek(position)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
