"""Callbacks: delivery, the metrics file, and following it while it is written."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from punie.train.callbacks import METRICS, Callback, Callbacks, MetricsFile, Record
from tests.flushed import Flushed


class Recorder(Callback):
    def __init__(self) -> None:
        self.records = list[Record]()

    def metrics(self, record: Record) -> None:
        self.records.append(record)


class Broken(Callback):
    def metrics(self, record: Record) -> None:
        raise RuntimeError("the tracker is down")


def record(it: int, loss: float = 1.0) -> Record:
    return {"kind": "train", "iter": it, "loss": loss}


def eventually(recorder: Recorder, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(recorder.records) < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_the_tables_are_light() -> None:
    """Importing the tables of methods and callbacks imports neither mlx nor numpy."""
    code = "import sys, punie.train.methods, punie.train.callbacks; print({'mlx', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_callback_that_raises_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once and gets no further event; the others get all, and nothing is raised."""
    recorder = Recorder()
    callbacks = Callbacks([Broken(), recorder])
    with caplog.at_level(logging.WARNING):
        for it in (1, 2, 3):
            callbacks.each(lambda each, it=it: each.metrics(record(it)))
    assert recorder.records == [record(1), record(2), record(3)]
    assert [line.getMessage() for line in caplog.records] == [
        "Broken is switched off: RuntimeError: the tracker is down"
    ]


def test_a_checkpoint_counts_on_what_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of the file that a checkpoint records was flushed, so that no crash makes it shorter."""
    flushed = Flushed(monkeypatch)
    file = MetricsFile(tmp_path)
    file.metrics(record(1))
    assert not flushed.whole(file.path)
    assert file.position() == file.path.stat().st_size
    assert flushed.whole(file.path)
    file.close()


def test_each_record_is_followed_once(tmp_path: Path) -> None:
    """Callbacks get the records while the file grows; what a resumed training repeats comes only once."""
    file, recorder = MetricsFile(tmp_path), Recorder()
    with Callbacks([Broken(), recorder]).following(tmp_path / METRICS):
        file.metrics(record(1))
        kept = file.position()
        file.metrics(record(2, 0.123456))
        eventually(recorder, 2)
        assert recorder.records == [record(1), record(2, 0.123456)]
        file.cut(kept)
        file.metrics(record(2, 0.5))
        file.metrics(record(3))
    file.close()
    assert recorder.records == [record(1), record(2, 0.123456), record(3)]


def test_what_was_written_before_is_delivered(tmp_path: Path) -> None:
    """The records of a training that is reused come like those of one that runs; a file need not exist."""
    file, recorder = MetricsFile(tmp_path), Recorder()
    for it in (1, 2):
        file.metrics(record(it))
    file.close()
    callbacks = Callbacks([Broken(), recorder])
    callbacks.written(tmp_path / METRICS)
    callbacks.written(tmp_path / "absent")
    assert recorder.records == [record(1), record(2)]


def test_a_line_that_is_cut_is_not_reported(tmp_path: Path) -> None:
    """Half a line at the end, and a line that is no record, are passed over; a file need not exist."""
    recorder = Recorder()
    with Callbacks([recorder]).following(tmp_path / METRICS):
        pass
    (tmp_path / METRICS).write_text('3}\n{"kind": "valid", "iter": 0, "loss": 1.0}\n{"kind": "tra')
    with Callbacks([recorder]).following(tmp_path / METRICS):
        pass
    assert recorder.records == [{"kind": "valid", "iter": 0, "loss": 1.0}]
