"""The training loop: what changes an adapter, and what must not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from punie.store.keys import file_digest
from punie.train import adapter, loop
from punie.train.batches import Row, pad
from punie.util.errors import PunieError
from tests.flushed import Flushed
from tests.unit.train.trainer import SFT, Fresh, Killed, Trainer


def test_only_the_recipe_decides_the_bytes(trainer: Trainer) -> None:
    """The same recipe gives the same adapter, epoch after epoch, however often it validates, reports or saves
    and whatever numpy's global generator did; another seed gives another adapter."""
    trainer.splits = {**trainer.splits, "train": trainer.splits["train"][:6]}
    trainer("plain")
    expected = trainer.digest()
    changes: dict[str, Any] = {"steps_per_eval": 1, "val_batches": -1, "steps_per_report": 1, "save_every": 1}
    for change in ({}, *({name: value} for name, value in changes.items())):
        np.random.seed(5)
        trainer(str(change), **change)
        assert (change, trainer.digest()) == (change, expected)
    trainer("seed", seed=1)
    assert trainer.digest() != expected


def test_a_finished_training_is_on_the_disk(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter and train.jsonl are flushed before the record that the training has ended."""
    flushed, write_json, seen = Flushed(monkeypatch), loop.write_json, []

    def written(path: Path, value: Any) -> None:
        seen.append(
            {n: flushed.whole(trainer.out / n) for n in (adapter.WEIGHTS, adapter.CONFIG, "train.jsonl")}
        )
        write_json(path, value)

    monkeypatch.setattr(loop, "write_json", written)
    trainer()
    assert seen == [dict.fromkeys((adapter.WEIGHTS, adapter.CONFIG, "train.jsonl"), True)]


@pytest.mark.parametrize("accumulation", [2, 3])
def test_a_killed_training_ends_as_if_it_had_not_been(trainer: Trainer, accumulation: int) -> None:
    """Killed at any iteration, also within a window and with dropout, it resumes from the last checkpoint and
    ends with the bytes and losses of the undisturbed training."""
    options: dict[str, Any] = {
        "save_every": 2,
        "grad_accumulation_steps": accumulation,
        "attach": {"dropout": 0.2},
        "lr_schedule": {"name": "cosine_decay", "arguments": [1e-3, 8], "warmup": 2, "warmup_init": 0.0},
    }
    whole = trainer("whole", **options)
    expected, losses = trainer.digest(), _losses(trainer.out)
    for at in (1, 3, 4, 5, 7):
        with pytest.raises(Killed):
            trainer(f"cut {at}", kill_at=at, **options)
        resumed = trainer(f"cut {at}", **options)
        assert resumed.resumed_from == (at - 1) // 2 * 2
        assert trainer.digest() == expected
        assert _losses(trainer.out) == losses
        known = ("updates", "tokens", "train_loss", "valid_loss")
        assert [getattr(resumed, name) for name in known] == [getattr(whole, name) for name in known]


def test_the_loss_is_that_of_mlx_lm(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same batches, accumulated by batch and without mlx-lm's loss on a pad token, 50 updates have the
    losses of mlx-lm's trainer within 1e-5 relative."""
    from mlx_lm.tuner import trainer as peer

    from punie.train.batches import training_batches

    iters, rate = 100, 1e-4  # the published rate; at ten times that, rounding alone grows to 1e-3 by then
    changes: dict[str, Any] = {
        "iters": iters,
        "accumulation": "per_batch",
        "learning_rate": rate,
        "steps_per_report": 1,
        "save_every": iters,
    }
    trainer("ours", steps_per_eval=iters, **changes)
    ours = [record["loss"] for record in trainer.kind("train")]
    rows = trainer.splits["train"]
    order = training_batches([len(row.tokens) for row in rows], 2, 0)

    def same_batches(**_: Any) -> Any:
        for batch in order:
            chosen = [rows[index] for index in batch]
            # mlx-lm's upper bound is inclusive: one less leaves the pad token out
            bounds = [[row.spans[0][0], len(row.tokens) - 1] for row in chosen]
            yield pad(chosen).ids, mx.array(bounds)

    theirs: list[float] = []

    class Callback(peer.TrainingCallback):
        def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
            theirs.append(train_info["train_loss"])

    import mlx.optimizers as optimizers

    model, _ = trainer.fresh()
    monkeypatch.setattr(peer, "TrainUI", _Silent)
    peer.train(
        model,
        optimizers.Adam(learning_rate=rate),
        rows,
        args=peer.TrainingArgs(
            batch_size=2,
            iters=iters,
            steps_per_report=1,
            steps_per_save=10**6,
            grad_accumulation_steps=2,
            adapter_file=str(trainer.folder / "theirs.safetensors"),
        ),
        iterate_batches=same_batches,
        training_callback=Callback(),
    )
    # mlx-lm reports the mean over minibatches, which for one minibatch is the mean over its tokens
    assert len(ours) == len(theirs) == iters
    assert max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True)) < 1e-5


def test_padding_gets_no_loss(trainer: Trainer) -> None:
    """The loss of a padded batch is the sum of its rows' losses."""
    model, _ = trainer.fresh()
    rows = sorted(trainer.splits["train"], key=lambda row: len(row.tokens))
    short, long = rows[0], rows[-1]
    assert len(long.tokens) > len(short.tokens) + 16
    together = SFT.loss(model, pad([short, long]))
    alone = sum(SFT.loss(model, pad([row])).total.item() for row in (short, long))
    assert together.total.item() == pytest.approx(alone, rel=1e-5)
    assert pad([short, long]).mask.sum().item() == together.weight == short.supervised + long.supervised


def test_a_window_weighs_tokens_alike(trainer: Trainer) -> None:
    """Two minibatches of one row make the same update as one of two; by batch they do not."""
    pair = sorted(trainer.splits["train"], key=lambda row: row.supervised)
    trainer.splits = {**trainer.splits, "train": [pair[0], pair[-1]]}
    once: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1e-3, "save_every": 1}

    def weights(**changes: Any) -> np.ndarray:
        trainer(str(changes), **{**once, **changes})
        return np.concatenate(
            [np.asarray(v).ravel() for _, v in tree_flatten(trainer.model.trainable_parameters())]
        )

    whole = weights(iters=1, batch_size=2, grad_accumulation_steps=1)
    by_token = weights(iters=2, batch_size=1, grad_accumulation_steps=2)
    by_batch = weights(iters=2, batch_size=1, grad_accumulation_steps=2, accumulation="per_batch")
    step = np.abs(
        whole - weights(iters=1, batch_size=2, grad_accumulation_steps=1, learning_rate=1e-12)
    ).max()
    assert np.abs(by_token - whole).max() < 1e-4 * step
    assert np.abs(by_batch - whole).max() > 1e-2 * step


def test_a_trailing_window_is_applied(trainer: Trainer) -> None:
    """Seven minibatches in windows of two make four updates, and the last one changes the adapter."""
    seven = trainer("seven", iters=7)
    assert seven.updates == 4
    last = trainer.digest()
    trainer("six", iters=6)
    assert trainer.digest() != last


def test_validation_is_first_last_and_of_the_same_rows(trainer: Trainer) -> None:
    """It runs before the first update and after the last one, and its loss is that of the saved weights."""
    result = trainer()
    marks = trainer.kind("valid")
    assert [record["iter"] for record in marks] == [0, 4, 8]
    assert marks[0]["update"] == 0
    untouched, _ = trainer.fresh()
    checks = _checks(trainer)
    assert marks[0]["loss"] == pytest.approx(_loss(untouched, checks), rel=1e-5)
    untouched.load_weights(str(trainer.out / adapter.WEIGHTS), strict=False)
    assert result.valid_loss == pytest.approx(_loss(untouched, checks), rel=1e-6)


def test_the_best_checkpoint_is_the_saved_one(trainer: Trainer) -> None:
    """With a rate that ruins the model, best_val takes the lowest validated checkpoint, byte for byte."""
    result = trainer(select="best_val", learning_rate=0.05, save_every=1, iters=6, keep_checkpoints=1)
    losses = {record["iter"]: record["loss"] for record in trainer.kind("valid") if record["iter"]}
    assert result.selected_iter == min(losses, key=lambda it: losses[it])
    assert result.selected_iter != 6
    assert trainer.digest() == file_digest(
        trainer.out / "checkpoints" / f"{result.selected_iter:07d}" / adapter.WEIGHTS
    )
    model, _ = trainer.fresh()
    model.load_weights(str(trainer.out / adapter.WEIGHTS), strict=False)
    assert result.valid_loss == pytest.approx(_loss(model, _checks(trainer)), rel=1e-6)


def test_a_score_can_select(trainer: Trainer) -> None:
    """best_eval takes the checkpoint of the highest score; among equals that of the lower validation loss."""
    scores = iter([0.2, 0.9, 0.9, 0.1])
    result = trainer(select="best_eval", save_every=2, score=lambda: next(scores))
    losses = {record["iter"]: record["loss"] for record in trainer.kind("valid")}
    assert result.selected_iter == (4 if losses[4] < losses[6] else 6)
    assert [record["score"] for record in trainer.kind("select")] == [0.2, 0.9, 0.9, 0.1]


def test_checkpoints_are_bounded(trainer: Trainer) -> None:
    """Only the newest are kept, in mlx-lm's format, without what only a resumption needs."""
    trainer(save_every=1, keep_checkpoints=2)
    folders = sorted((trainer.out / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == ["0000007", "0000008"]
    assert sorted(path.name for path in folders[0].iterdir()) == [adapter.CONFIG, adapter.WEIGHTS]


@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_a_damaged_checkpoint_is_passed_over(trainer: Trainer, damage: str) -> None:
    """Resumption takes the newest whole checkpoint, and ends with the same bytes."""
    trainer("whole", save_every=2)
    expected = trainer.digest()
    with pytest.raises(Killed):
        trainer("cut", save_every=2, kill_at=7)
    victim = trainer.out / "checkpoints" / "0000006" / "resume.safetensors"
    content = victim.read_bytes()
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(content[:-3] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    assert trainer("cut", save_every=2).resumed_from == 4
    assert trainer.digest() == expected


def test_a_training_that_had_ended_is_not_repeated(trainer: Trainer) -> None:
    """Killed after the last iteration and before publication: the next run finds the result and is done."""
    first = trainer("run")
    digest = trainer.digest()
    again = trainer("run", kill_at=1)
    assert again == first
    assert trainer.digest() == digest


def test_a_checkpoint_of_another_training_is_refused(trainer: Trainer) -> None:
    """Another rank, base or data set between kill and restart is an error, not a quiet mixture."""
    with pytest.raises(Killed):
        trainer("cut", save_every=2, kill_at=5)
    with pytest.raises(PunieError, match="belongs to another training"):
        trainer("cut", save_every=2, attach={"rank": 8})


@pytest.mark.parametrize("rate", [1e20, math.inf])
def test_a_loss_that_is_not_finite_names_its_rows(trainer: Trainer, rate: float) -> None:
    """It stops at once, with the rows of the minibatch and the last good checkpoint."""
    with pytest.raises(PunieError, match=r"not finite at iteration \d") as caught:
        trainer(optimizer="sgd", learning_rate=rate, save_every=1, grad_accumulation_steps=1)
    assert "train.jsonl:" in str(caught.value)
    assert "checkpoint" in str(caught.value)


def test_a_loss_that_has_not_moved_is_pointed_out(trainer: Trainer) -> None:
    """With a vanishing rate the result carries a warning; with a real one it does not."""
    (warning,) = trainer("still", learning_rate=1e-12).warnings
    assert "has not moved" in warning
    assert trainer("moved").warnings == ()


def test_gradient_checkpointing_gives_the_same_losses(trainer: Trainer) -> None:
    """It saves memory and changes rounding alone."""
    plain = trainer("plain")
    again = trainer("checkpointed", grad_checkpoint=True)
    assert again.valid_loss == pytest.approx(plain.valid_loss, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon", "sgd", "adafactor"])
def test_every_optimizer_trains_and_resumes(trainer: Trainer, optimizer: str) -> None:
    """Each of mlx-lm's optimizers lowers the loss and survives a kill."""
    options: dict[str, Any] = {"optimizer": optimizer, "learning_rate": 1e-3, "save_every": 2}
    whole = trainer("whole", **options)
    assert whole.valid_loss < whole.first_valid_loss
    expected = trainer.digest()
    with pytest.raises(Killed):
        trainer("cut", kill_at=5, **options)
    trainer("cut", **options)
    assert trainer.digest() == expected


def test_a_schedule_counts_updates(trainer: Trainer) -> None:
    """Warm-up and decay go by updates; the rate in force is in the metrics."""
    schedule = {"name": "linear_schedule", "arguments": [1e-3, 0.0, 3], "warmup": 2, "warmup_init": 0.0}
    trainer(lr_schedule=schedule, iters=12, grad_accumulation_steps=2)
    rates = [record["learning_rate"] for record in trainer.kind("train")]
    assert rates == pytest.approx([0, 0.5e-3, 1e-3, 1e-3, 0.667e-3, 0.333e-3], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr_schedule": {"name": "nope", "arguments": [1.0], "warmup": 0}}, "lora.lr_schedule"),
        ({"lr_schedule": {"name": "cosine_decay", "arguments": [], "warmup": 0}}, "lora.lr_schedule"),
        ({"optimizer_config": {"nope": 1}}, "lora.optimizer_config"),
    ],
)
def test_options_that_do_not_fit_are_named(trainer: Trainer, changes: dict[str, Any], words: str) -> None:
    """A schedule or an optimizer option that mlx does not know is an error of the config."""
    with pytest.raises(PunieError, match=words):
        trainer(**changes)


@pytest.mark.parametrize("kind", ["dora", "full"])
def test_other_kinds_of_fine_tuning(trainer: Trainer, kind: str) -> None:
    """DoRA on the attention, and whole layers, lower the loss and come out in mlx-lm's format."""
    keys = ["self_attn.q_proj", "self_attn.v_proj"] if kind == "dora" else None
    result = trainer(kind, attach={"fine_tune_type": kind, "keys": keys}, learning_rate=1e-3)
    assert result.valid_loss < result.first_valid_loss
    assert json.loads((trainer.out / adapter.CONFIG).read_text())["fine_tune_type"] == kind


def test_what_cannot_be_adapted_is_said(fresh: Fresh) -> None:
    """More layers than there are, keys that match nothing, DoRA on experts: each names what there is."""
    with pytest.raises(PunieError, match="at most 4"):
        fresh(num_layers=5)
    with pytest.raises(PunieError, match=r"self_attn\.q_proj"):
        fresh(keys=["nope"])
    with pytest.raises(PunieError, match=r"lora\.fine_tune_type=dora"):
        fresh(fine_tune_type="dora")


def test_the_metrics_stream_is_complete(trainer: Trainer) -> None:
    """Every record of the file was reported, and a train record has all its figures."""
    result = trainer()
    written = [json.loads(line) for line in (trainer.out / "train.jsonl").read_text().splitlines()]
    assert written == [record for record in trainer.records if "kind" in record]
    assert set(trainer.kind("train")[-1]) == {
        "kind", "iter", "update", "loss", "tokens", "supervised_tokens", "tokens_per_second", "learning_rate",
        "gradient_norm", "peak_memory_mb",
    }  # fmt: skip
    assert {*trainer.kind("valid")[0]} == {"kind", "iter", "update", "loss"}
    assert trainer.kind("train")[-1]["supervised_tokens"] == result.supervised_tokens
    assert trainer.kind("train")[-1]["gradient_norm"] > 0
    assert 0 <= result.padding_share < 0.2


def test_every_assistant_turn_can_be_supervised(tokenizer: Any) -> None:
    """all_turns supervises each answer and nothing between; last_turn only the last."""
    from punie.formats.prompts import format_example, format_turns

    messages = [
        {"role": "system", "content": "You are Punie."},
        {"role": "user", "content": "list the files"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "and again"},
        {"role": "assistant", "content": "two"},
    ]
    tokens, spans = format_turns(tokenizer, messages)
    texts = [tokenizer.decode(tokens[start:end]) for start, end in spans]
    assert [text.replace("<|im_end|>", "").strip() for text in texts] == ["one", "two"]
    same, prompt = format_example(tokenizer, messages)
    assert same == tokens
    assert prompt == spans[-1][0]


def _losses(out: Path) -> list[tuple[str, int, float]]:
    records = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return [(record["kind"], record["iter"], record["loss"]) for record in records]


def _checks(trainer: Trainer) -> list[Row]:
    from punie.train.batches import validation_batches

    valid = trainer.splits["valid"]
    batches = validation_batches([len(row.tokens) for row in valid], 2, 2, 0)
    return [valid[index] for batch in batches for index in batch]


def _loss(model: nn.Module, rows: list[Row]) -> float:
    model.eval()
    losses = [SFT.loss(model, pad([row])) for row in rows]
    return float(sum(np.asarray(loss.total) for loss in losses)) / sum(loss.weight for loss in losses)


class _Silent:
    """In place of mlx-lm's terminal display."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None
