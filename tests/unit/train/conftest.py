"""Trains the embedded model in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from punie.store.keys import file_digest
from punie.train import adapter
from punie.train.batches import Row
from punie.train.forward import Forward
from punie.train.loop import Recipe, Trained, Training
from punie.train.methods import Method
from punie.train.methods.sft import Sft
from tests.unit.conftest import RECIPE

SFT = Sft(Forward(), {})


class Killed(BaseException):
    """Stands for the end of the process."""


class Trainer:
    """Trains fresh copies of the tiny model."""

    def __init__(self, fresh: Callable[..., Any], splits: dict[str, list[Row]], folder: Path) -> None:
        self.fresh, self.splits, self.folder = fresh, splits, folder
        self.records: list[dict[str, Any]] = []

    def __call__(
        self,
        name: str = "run",
        *,
        kill_at: int | None = None,
        score: Callable[[], float] | None = None,
        attach: dict[str, Any] | None = None,
        method: Method[Any, Any] = SFT,
        **changes: Any,
    ) -> Trained:
        self.model, description = self.fresh(**(attach or {}))
        self.out = self.folder / name
        self.out.mkdir(exist_ok=True)
        self.records = []

        def report(record: Any) -> None:
            self.records.append(record)
            if "kind" not in record and record["iter"] == kill_at:
                raise Killed

        recipe = {**RECIPE, **changes}
        return Training(
            model=self.model,
            method=method,
            examples=self.splits["train"],
            valid=self.splits["valid"],
            recipe=Recipe(**recipe),
            out=self.out,
            description=description,
            identity=json.dumps([recipe, description]),
            report=report,
            score=score,
        ).run()

    def resumed(self, at: int, name: str = "cut", **options: Any) -> Trained:
        """Kill a training after an iteration, and continue it."""
        with pytest.raises(Killed):
            self(name, kill_at=at, **options)
        return self(name, **options)

    def digest(self) -> str:
        return file_digest(self.out / adapter.WEIGHTS)

    def kind(self, kind: str) -> list[dict[str, Any]]:
        """The records of a kind that this process reported."""
        return [record for record in self.records if record.get("kind") == kind]

    def written(self, *names: str) -> list[tuple[Any, ...]]:
        """These figures of every record in the file, None where a record has no such figure."""
        lines = map(json.loads, (self.out / "train.jsonl").read_text().splitlines())
        return [tuple(record.get(name) for name in ("kind", "iter", *names)) for record in lines]


@pytest.fixture
def trainer(fresh: Callable[..., Any], splits: dict[str, list[Any]], tmp_path: Path) -> Trainer:
    """Trains fresh copies of the tiny model in a temporary folder."""
    return Trainer(fresh, splits, tmp_path)
