"""Callbacks of a run: the table of them, how events are delivered, and the file of a training's metrics."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from punie.util.files import flush

Record = Mapping[str, Any]
"""A record of a training, as JSON values: ``kind`` (train, valid, select), ``iter``, ``update``, figures."""

CALLBACKS = {
    "mlflow": "punie.track.mlflow:Mlflow",
    "tensorboard": "punie.track.tensorboard:Tensorboard",
    "trackio": "punie.track.trackio:Trackio",
    "wandb": "punie.track.wandb:Wandb",
}
"""By the name in ``track=NAME``, the ``module:attribute`` of what makes a callback of a project's name. An
addition is one file, one line here, and a preset in conf/track."""

METRICS = "train.jsonl"
"""The metrics of a training, a JSON object a line: in an artifact of ``train`` and in a run directory."""
_POLL = 0.2
"""Seconds between two looks at a file that is being written."""
log = logging.getLogger(__name__)


class Callback:
    """Base of the callbacks, which ignores every event: an entry overrides those it needs."""

    package: ClassVar[str | None] = None
    """What has to be installed for it: the name to import, which is that of punie's extra, too."""

    def run_started(self, *, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        """A run has begun; its ``name``, its directory, and its resolved config as JSON values."""

    def stage_ended(self, *, stage: str, folder: Path, seconds: float, reused: bool) -> None:
        """A stage has its artifact, in a folder named by its key; ``reused`` if the store had it already."""

    def metrics(self, record: Record) -> None:
        """The training has written a record."""

    def run_ended(self, *, status: str, folder: Path) -> None:
        """The run directory is complete; the status is ``finished``, ``failed`` or ``interrupted``."""


class MetricsFile(Callback):
    """Appends each record to a folder's ``train.jsonl``, part of the artifact: its errors count."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
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


class Callbacks:
    """Delivers events. A callback that raises is logged, and gets no further event of this run."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self._active = list(callbacks)

    def each(self, event: Callable[[Callback], None]) -> None:
        """Deliver an event to every callback, in order; ``event`` calls the method."""
        for callback in tuple(self._active):
            try:
                event(callback)
            except Exception as error:  # nothing a tracker does may end the run
                self._active.remove(callback)
                log.warning(
                    "%s is switched off: %s: %s", type(callback).__name__, type(error).__name__, error
                )

    @contextlib.contextmanager
    def following(self, stream: Path | None) -> Generator[None]:
        """Deliver the records of a ``train.jsonl`` while the block writes it, in this or another process.

        ``stream`` is None for a block that writes none.

        A thread reads the file, so that a slow callback does not slow down the training.
        """
        if stream is None or not self._active:
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=follow, args=(stream, ended.is_set, self._deliver), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def written(self, stream: Path) -> None:
        """Deliver the records of a ``train.jsonl`` that was written before."""
        if self._active:
            follow(stream, lambda: True, self._deliver)

    def _deliver(self, record: Record) -> None:
        self.each(lambda callback: callback.metrics(record))


def follow(stream: Path, ended: Callable[[], bool], report: Callable[[Record], None]) -> None:
    """Report each record of a growing ``train.jsonl`` once, until its writer has ended.

    A resumed training cuts the file back and writes records again: what has a known kind and iteration is
    passed over, and the whole file is read once more at the end.
    """
    seen: set[tuple[str, int]] = set()
    position, last = 0, False
    while not last:
        last = ended()
        size = stream.stat().st_size if stream.exists() else 0
        position = 0 if last or size < position else position
        if size > position:
            with stream.open("rb") as lines:
                lines.seek(position)
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    position += len(line)
                    try:
                        record = json.loads(line)
                        place = (record["kind"], record["iter"])
                    except (ValueError, TypeError, KeyError):  # the cut went through this line
                        continue
                    if place not in seen:
                        seen.add(place)
                        report(record)
        if not last:
            time.sleep(_POLL)
