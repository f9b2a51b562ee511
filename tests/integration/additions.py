"""What a test adds to punie's tables; run as a program, it is punie with these additions."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from punie.train.callbacks import CALLBACKS, Callback, Record
from punie.train.methods import METHODS

METHODS["doubled"] = "tests.integration.doubled:Doubled"
CALLBACKS |= {name.lower(): f"tests.integration.additions:{name}" for name in ("Broken", "Events")}


class Events(Callback):
    """Writes every event to ``events.jsonl``."""

    def __init__(self, project: str | None) -> None:
        self.path = Path("events.jsonl")

    def write(self, *event: Any) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps(event) + "\n")

    def run_started(self, *, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        self.write("run started", name, folder.is_dir(), config["lora"]["method"])

    def stage_ended(self, *, stage: str, folder: Path, seconds: float, reused: bool) -> None:
        self.write("stage ended", stage, (folder / "manifest.json").exists(), reused)

    def metrics(self, record: Record) -> None:
        self.write("metrics", record["kind"], record["iter"])

    def run_ended(self, *, status: str, folder: Path) -> None:
        self.write("run ended", status, (folder / "results.json").exists())


class Broken(Callback):
    """Raises."""

    def __init__(self, project: str | None) -> None: ...

    def run_started(self, *, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        raise RuntimeError("the tracker is down")


def main() -> None:
    """Run punie; the schema, which is imported here, takes its choices from the tables."""
    from punie.__main__ import main as front

    sys.exit(front(sys.argv[1:]))


if __name__ == "__main__":
    main()
