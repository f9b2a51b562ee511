"""Trackers for tests, made by name in a process of their own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from punie.track.tracker import Told, Tracker
from punie.train.callbacks import Callback


class Written(Tracker):
    """Writes what it is told to ``told.jsonl`` in the run's folder, anew for each start."""

    def start(self, told: Told) -> None:
        self.path = told.folder / "told.jsonl"
        self.path.unlink(missing_ok=True)
        about = {"name": told.name, "parent": told.parent, "group": told.group, "project": self.project}
        self.write("start", told.id, {**about, "parameters": told.parameters, "tags": told.tags})

    def log(self, values: Mapping[str, float], step: int | None) -> None:
        self.write("log", step, values)

    def tag(self, tags: Mapping[str, str]) -> None:
        self.write("tag", tags)

    def keep(self, file: Path) -> None:
        self.write("keep", file.name)

    def end(self, status: str) -> None:
        self.write("end", status)

    def write(self, *row: Any) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


class Counting(Callback):
    """Appends to the file of its project."""

    def __init__(self, project: str | None) -> None:
        self.path = Path(project or "")

    def run_started(self, **_: Any) -> None:
        self.path.write_text(f"{os.nice(0)}\n")

    def metrics(self, record: Mapping[str, Any]) -> None:
        with self.path.open("a") as stream:
            stream.write(f"{record['iter']}\n")


class Slow(Counting):
    def metrics(self, record: Mapping[str, Any]) -> None:
        time.sleep(0.3)
        super().metrics(record)


class Stuck(Counting):
    """A server that never answers."""

    def run_started(self, **_: Any) -> None:
        time.sleep(600)


class Refusing(Counting):
    def run_started(self, **_: Any) -> None:
        raise ConnectionError(f"401 from http://me:pw@host with key {os.environ['TEST_API_KEY']}")


class Failing(Counting):
    """Fails for one message, and goes on."""

    def metrics(self, record: Mapping[str, Any]) -> None:
        if record["iter"] == 1:
            raise TimeoutError("no answer")
        super().metrics(record)


class Dying(Counting):
    def metrics(self, record: Mapping[str, Any]) -> None:
        os._exit(3)


class Absent(Callback):
    package = "punie_has_no_such_package"
