"""The seam of training methods: one that is added to the table trains, reports and resumes as sft does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from punie.train.batches import Batch, Row, load_rows, pad, save_rows
from punie.train.forward import Forward
from punie.train.methods import METHODS, Loss, Method, build
from punie.train.methods.sft import Sft
from tests.unit.train.conftest import Trainer


class Doubled(Sft):
    """Twice the loss of sft; reports the share of tokens with loss that the model would choose."""

    logged = ("accuracy",)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        chosen = mx.argmax(model(batch.ids[:, :-1]), axis=-1).flatten()[batch.where] == batch.targets
        total, weight, _ = super().loss(model, batch)
        return Loss(2 * total, weight, {"accuracy": chosen.sum()})


@dataclass(frozen=True)
class Pair(Row):
    """An answer and a worse one."""

    rejected: Row


@dataclass(frozen=True)
class Pairs(Batch):
    """Chosen answers, and rejected ones."""

    rejected: Batch


class Preference(Method[Pair, Pairs]):
    """The logistic loss of the difference in log-probability, as ORPO has it, by pair."""

    logged = ("margin",)

    def load(self, path: Path, split: str) -> list[Pair]:
        rows = load_rows(path, split)
        return [Pair(a.name, a.tokens, a.spans, b) for a, b in zip(rows[::2], rows[1::2], strict=True)]

    def batch(self, examples: Sequence[Pair], it: int) -> Pairs:
        return Pairs(**vars(pad(examples)), rejected=pad([pair.rejected for pair in examples]))

    def loss(self, model: nn.Module, batch: Pairs) -> Loss:
        margin = _log_probability(model, batch) - _log_probability(model, batch.rejected)  # (B,)
        return Loss(-nn.log_sigmoid(margin).sum(), margin.size, {"margin": margin.sum()})


def _log_probability(model: nn.Module, batch: Batch) -> mx.array:
    """Mean over the tokens with loss, by sequence, (B,)."""
    losses = Forward().losses(model, batch)
    own = (batch.where // (batch.ids.shape[1] - 1))[None] == mx.arange(len(batch.ids))[:, None]  # (B, N)
    return -(own * losses).sum(axis=1) / own.sum(axis=1)


def test_a_method_is_one_line(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is added here trains by its own loss, and its figures are in the records after the loop's."""
    monkeypatch.setitem(METHODS, "doubled", f"{__name__}:Doubled")
    plain, first = trainer("sft"), trainer.kind("valid")[0]["loss"]
    doubled = trainer("doubled", method=build("doubled", Forward(), {}))
    assert trainer.kind("valid")[0]["loss"] == pytest.approx(2 * first, rel=1e-5)
    assert doubled.supervised_tokens == plain.supervised_tokens
    assert [list(trainer.kind(kind)[-1])[-1] for kind in ("train", "valid")] == ["accuracy", "accuracy"]
    assert 0 < trainer.kind("valid")[0]["accuracy"] < trainer.kind("valid")[-1]["accuracy"] <= 1


def test_a_method_has_examples_of_its_own(trainer: Trainer, tmp_path: Path) -> None:
    """A method over pairs of answers widens their margin; killed within a window, it ends with the same bytes
    and figures."""
    method, rows, file = Preference(), trainer.splits["train"], tmp_path / "pairs"
    save_rows(file, [row for pair in zip(rows[:4], rows[4:8], strict=True) for row in pair])
    pairs = method.load(file, "train.jsonl")
    trainer.splits = {"train": [*pairs], "valid": [*pairs]}
    options: dict[str, Any] = {"method": method, "learning_rate": 1e-4, "save_every": 3, "val_batches": -1}
    trainer("whole", **options)
    digest, figures = trainer.digest(), trainer.written("loss", "margin")
    first, *_, last = trainer.kind("valid")
    assert last["margin"] > first["margin"]
    assert trainer.resumed(5, **options).resumed_from == 3
    assert (trainer.digest(), trainer.written("loss", "margin")) == (digest, figures)
