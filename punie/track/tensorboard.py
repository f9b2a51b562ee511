"""TensorBoard: event files in the folder of the run, so that the jobs of a sweep are folders below it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from punie.track.tracker import Told, Tracker

FOLDER = "tensorboard"
"""In a run's folder. ``tensorboard --logdir outputs`` finds all of them."""


class Tensorboard(Tracker):
    """Writes event files, without TensorFlow."""

    package = "tensorboard"

    def start(self, told: Told) -> None:
        """Begin new event files, in place of earlier ones of this run."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = told.folder / FOLDER
        for earlier in folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        self.writer = EventFileWriter(str(folder))
        values = {name: "null" if value is None else value for name, value in told.parameters.items()}
        self._write(hparams_pb(values, trial_id=told.id), 0)
        self.tags = {"punie.id": told.id, **told.tags} | ({"parent": told.parent} if told.parent else {})

    def log(self, values: Mapping[str, float], step: int | None) -> None:
        """Write scalars; figures of the run as a whole are at step 0."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Summary(value=scalars), step or 0)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Remember tags, which are written together."""
        self.tags |= tags

    def keep(self, file: Path) -> None:
        """Nothing: the files of the run are beside the event files."""

    def end(self, status: str) -> None:
        """Write the tags as text, and close the file."""
        import numpy as np
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        text = json.dumps({**self.tags, "status": status}, indent=1)
        text = "\n".join(f"    {line}" for line in text.splitlines())  # Markdown, which shows it as code
        value = Summary.Value(
            tag="tags",
            metadata=create_summary_metadata("tags", "keys and digests of the run"),
            tensor=make_tensor_proto(np.array(text.encode(), dtype=object)),
        )
        self._write(Summary(value=[value]), 0)
        self.writer.close()

    def _write(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
