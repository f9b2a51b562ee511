"""Callbacks of a run: the table of them, how events are delivered, and the file of a training's metrics."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from punie.util.files import flush

Record = Mapping[str, Any]
"""A record of a training, as JSON values: ``kind`` (train, valid, select), ``iter``, ``update``, figures."""

CALLBACKS = {"metrics_file": "punie.train.callbacks:MetricsFile"}
"""By name, the ``module:attribute`` of what makes a callback of a folder, the run's or the training's. Adding
one is one file and one line here."""

METRICS = "train.jsonl"
"""The metrics of a training, a JSON object a line: in an artifact of ``train`` and in a run directory."""
_POLL = 0.2
"""Seconds between two looks at a file that is being written."""
log = logging.getLogger(__name__)


class Callback:
    """Base of the callbacks, which ignores every event: an entry overrides those it needs."""

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


def build(name: str, folder: Path) -> Callback:
    """The callback of a name in ``CALLBACKS``."""
    return resolve_name(CALLBACKS[name])(folder)


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
        deliver = lambda record: self.each(lambda callback: callback.metrics(record))  # noqa: E731
        thread = threading.Thread(target=follow, args=(stream, ended.is_set, deliver), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


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
