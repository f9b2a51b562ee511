"""Trains the embedded model in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from punie.store.keys import file_digest
from punie.train import adapter
from punie.train.batches import Row
from punie.train.loop import Recipe, Trained, Training
from punie.train.methods import Method
from punie.train.methods.sft import Sft
from tests.unit.conftest import RECIPE

Fresh = Callable[..., tuple[Any, dict[str, Any]]]
SFT = Sft(cast(Any, None), {})


class Killed(BaseException):
    """Stands for the end of the process."""


class Trainer:
    """Trains fresh copies of the tiny model."""

    def __init__(self, fresh: Fresh, splits: dict[str, list[Row]], folder: Path) -> None:
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
        model, description = self.fresh(**(attach or {}))
        self.model, self.out = model, self.folder / name
        self.out.mkdir(exist_ok=True)
        self.records = []

        def report(record: Any) -> None:
            self.records.append(record)
            if "kind" not in record and record["iter"] == kill_at:
                raise Killed

        recipe = {**RECIPE, **changes}
        return Training(
            model=model,
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

    def digest(self) -> str:
        return file_digest(self.out / adapter.WEIGHTS)

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record.get("kind") == kind]
