"""The training loop: what changes an adapter, and what must not."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from punie.store.keys import file_digest
from punie.train import adapter, loop
from punie.train.batches import pad, training_batches, validation_batches
from punie.train.recipe import build_optimizer
from punie.util.errors import PunieError
from tests.flushed import Flushed
from tests.unit.conftest import RECIPE
from tests.unit.train.conftest import SFT, Killed, Trainer


def test_only_the_recipe_decides_the_bytes(trainer: Trainer) -> None:
    """The same recipe gives the same adapter, epoch after epoch, however often it validates, reports or saves
    and whatever numpy's global generator did; another seed gives another adapter."""
    trainer.splits = {"train": trainer.splits["train"][:6], "valid": trainer.splits["valid"][:4]}
    trainer("plain")
    expected = trainer.digest()
    changes: dict[str, Any] = {"steps_per_eval": 1, "val_batches": -1, "steps_per_report": 1, "save_every": 1}
    for change in ({}, changes):
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


@pytest.mark.long
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
    expected, losses = trainer.digest(), trainer.written("loss")
    for at in (1, 3, 4, 5, 7):
        resumed = trainer.resumed(at, f"cut {at}", **options)
        assert resumed.resumed_from == (at - 1) // 2 * 2
        assert (trainer.digest(), trainer.written("loss")) == (expected, losses)
        known = ("updates", "tokens", "train_loss", "valid_loss")
        assert [getattr(resumed, name) for name in known] == [getattr(whole, name) for name in known]


@pytest.mark.parametrize("cut", ["waiting", pytest.param("anywhere", marks=pytest.mark.long)])
def test_patience_ends_a_training_with_its_best_checkpoint(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """Once so many checkpoints in a row are no better, the best one is the result; killed while it waits, or
    after the last of them, a training ends with the same bytes, losses and words."""
    options: dict[str, Any] = {
        "iters": 40, "save_every": 2, "select": "best_val", "patience": 2, "grad_accumulation_steps": 3,
        "steps_per_report": 50, "val_batches": 1,
        "lr_schedule": {"name": "linear_schedule", "arguments": [1e-3, 0.3, 4], "warmup": 0},
    }  # fmt: skip
    whole, expected = trainer("whole", **options), trainer.digest()
    losses = {record["iter"]: record["loss"] for record in trainer.kind("valid")}
    best = min(losses, key=lambda it: (losses[it], it))
    assert (whole.selected_iter, whole.iters, whole.planned_iters) == (best, best + 4, 40)
    assert whole.valid_loss == pytest.approx(losses[best], abs=1e-6)
    assert whole.stopped == f"no lower validation loss in 2 checkpoints after iteration {best}"
    assert expected == file_digest(trainer.out / "checkpoints" / f"{best:07d}" / adapter.WEIGHTS)
    written = trainer.written("loss")
    for at in (best + 3,) if cut == "waiting" else range(1, best + 5):
        with pytest.raises(Killed):
            trainer(f"cut {at}", kill_at=at, **options)
        with monkeypatch.context() as patched:
            patched.setattr(loop.Training, "_finish", MagicMock(side_effect=Killed))
            with pytest.raises(Killed):  # from the last checkpoint to the end of the waiting
                trainer(f"cut {at}", **options)
        resumed = trainer(f"cut {at}", **options)
        assert resumed.resumed_from == whole.iters
        assert (trainer.digest(), trainer.written("loss")) == (expected, written)
        same = ("iters", "selected_iter", "stopped", "updates", "valid_loss", "tokens")
        assert [getattr(resumed, name) for name in same] == [getattr(whole, name) for name in same]


@pytest.mark.parametrize("iters", [12, pytest.param(100, marks=pytest.mark.long)])
def test_the_loss_is_that_of_mlx_lm(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, iters: int) -> None:
    """On the same batches, accumulated by batch and without mlx-lm's loss on a pad token, all updates have
    the losses of mlx-lm's trainer within 1e-5 relative."""
    import mlx.optimizers as optimizers
    from mlx_lm.tuner import trainer as peer

    rate = 1e-4  # the published rate; at ten times that, rounding alone grows to 1e-3 by then
    changes: dict[str, Any] = {"accumulation": "per_batch", "learning_rate": rate, "steps_per_report": 1}
    trainer("ours", iters=iters, steps_per_eval=iters, save_every=iters, **changes)
    ours = [record["loss"] for record in trainer.kind("train")]
    examples = trainer.splits["train"]
    order = training_batches([len(example.tokens) for example in examples], 2, 0)

    def same_batches(**_: Any) -> Any:
        for batch in order:
            chosen = [examples[index] for index in batch]
            # mlx-lm's upper bound is inclusive: one less leaves the pad token out
            yield pad(chosen).ids, mx.array([[each.spans[0][0], len(each.tokens) - 1] for each in chosen])

    theirs: list[float] = []

    class Callback(peer.TrainingCallback):
        def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
            theirs.append(train_info["train_loss"])

    model, _ = trainer.fresh()
    monkeypatch.setattr(peer, "TrainUI", MagicMock())  # its display at the terminal
    settings: dict[str, Any] = {
        "batch_size": 2,
        "iters": iters,
        "steps_per_report": 1,
        "steps_per_save": 10**6,
    }
    file = str(trainer.folder / "theirs.safetensors")
    peer.train(
        model,
        optimizers.Adam(learning_rate=rate),
        examples,
        args=peer.TrainingArgs(**settings, grad_accumulation_steps=2, adapter_file=file),
        iterate_batches=same_batches,
        training_callback=Callback(),
    )
    # mlx-lm reports the mean over minibatches, which for one minibatch is the mean over its tokens
    assert len(ours) == len(theirs) == iters
    assert max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True)) < 1e-5


def test_padding_gets_no_loss(trainer: Trainer) -> None:
    """The loss of a padded batch is the sum of its examples' losses."""
    model, _ = trainer.fresh()
    short, *_, long = sorted(trainer.splits["train"], key=lambda example: len(example.tokens))
    assert len(long.tokens) > len(short.tokens) + 16
    together = SFT.loss(model, pad([short, long]))
    alone = sum(SFT.loss(model, pad([row])).total.item() for row in (short, long))
    assert together.total.item() == pytest.approx(alone, rel=1e-5)
    assert len(pad([short, long]).where) == together.weight == short.supervised + long.supervised


def test_a_window_weighs_tokens_alike(trainer: Trainer) -> None:
    """Two minibatches of one example make the same update as one of two; by batch they do not."""
    short, *_, long = sorted(trainer.splits["train"], key=lambda example: example.supervised)
    trainer.splits = {**trainer.splits, "train": [short, long]}

    def weights(*, iters: int, rate: float = 1e-3, **changes: Any) -> np.ndarray:
        size: dict[str, Any] = {"batch_size": 2 // iters, "grad_accumulation_steps": iters}
        name = f"{iters} {rate} {changes}"
        trainer(name, optimizer="sgd", learning_rate=rate, save_every=1, iters=iters, **size, **changes)
        parameters = tree_flatten(trainer.model.trainable_parameters())
        return np.concatenate([np.asarray(value).ravel() for _, value in parameters])

    whole, untouched = weights(iters=1), weights(iters=1, rate=1e-12)
    step = np.abs(whole - untouched).max()
    assert np.abs(weights(iters=2) - whole).max() < 1e-4 * step
    assert np.abs(weights(iters=2, accumulation="per_batch") - whole).max() > 1e-2 * step


def test_a_trailing_window_is_applied(trainer: Trainer) -> None:
    """Three minibatches in windows of two make two updates, and the last one changes the adapter."""
    assert trainer("three", iters=3).updates == 2
    last = trainer.digest()
    trainer("two", iters=2)
    assert trainer.digest() != last


def test_validation_is_first_last_and_of_the_same_rows(trainer: Trainer) -> None:
    """It runs before the first update and after the last one, and its loss is that of the saved weights."""
    result = trainer()
    marks = trainer.kind("valid")
    assert [(record["iter"], record["update"]) for record in marks] == [(0, 0), (4, 2), (8, 4)]
    valid, (model, _) = trainer.splits["valid"], trainer.fresh()
    chosen = validation_batches([len(example.tokens) for example in valid], 2, 2, 0)

    def loss() -> float:
        model.eval()
        losses = [SFT.loss(model, pad([valid[index]])) for batch in chosen for index in batch]
        return float(sum(np.asarray(each.total) for each in losses)) / sum(each.weight for each in losses)

    assert marks[0]["loss"] == pytest.approx(loss(), rel=1e-5)
    model.load_weights(str(trainer.out / adapter.WEIGHTS), strict=False)
    assert result.valid_loss == pytest.approx(loss(), rel=1e-6)


def test_the_best_checkpoint_is_the_saved_one(trainer: Trainer) -> None:
    """With a rate that ruins the model, best_val takes the lowest validated checkpoint, byte for byte. It and
    the newest are kept, in mlx-lm's format, without what only a resumption needs."""
    result = trainer(select="best_val", learning_rate=0.05, save_every=1, iters=6, keep_checkpoints=1)
    losses = {record["iter"]: record["loss"] for record in trainer.kind("valid") if record["iter"]}
    best = result.selected_iter
    assert best == min(losses, key=lambda it: losses[it]) != 6
    folders = sorted((trainer.out / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == [f"{best:07d}", "0000006"]
    assert sorted(path.name for path in folders[0].iterdir()) == [adapter.CONFIG, adapter.WEIGHTS]
    assert trainer.digest() == file_digest(folders[0] / adapter.WEIGHTS)
    assert result.valid_loss == pytest.approx(losses[best], rel=1e-5)


def test_a_score_can_select(trainer: Trainer) -> None:
    """best_eval takes the checkpoint of the highest score; among equals that of the lower validation loss."""
    scores = iter([0.2, 0.9, 0.9, 0.1])
    result = trainer(select="best_eval", save_every=2, score=lambda: next(scores))
    losses = {record["iter"]: record["loss"] for record in trainer.kind("valid")}
    assert result.selected_iter == (4 if losses[4] < losses[6] else 6)
    assert [record["score"] for record in trainer.kind("select")] == [0.2, 0.9, 0.9, 0.1]


def test_a_damaged_checkpoint_is_passed_over(trainer: Trainer) -> None:
    """Resumption takes the newest whole checkpoint, and ends with the same bytes; one of a training with
    another rank, base or data set is an error, not a quiet mixture."""
    trainer("whole", save_every=2)
    expected = trainer.digest()
    damages: list[Callable[[bytes], bytes]] = [lambda c: c[:-3], lambda c: c[:-1] + bytes([c[-1] ^ 1])]
    with pytest.raises(Killed):
        trainer("cut", save_every=2, kill_at=7)
    cut = trainer.out
    with pytest.raises(PunieError, match="belongs to another training"):
        trainer("cut", save_every=2, attach={"rank": 8})
    for number, damage in enumerate(damages):
        trainer.out = Path(shutil.copytree(cut, trainer.folder / f"cut {number}"))
        victim = trainer.out / "checkpoints" / "0000006" / "resume.safetensors"
        victim.write_bytes(damage(victim.read_bytes()))
        assert trainer(f"cut {number}", save_every=2).resumed_from == 4
        assert trainer.digest() == expected


def test_a_training_that_had_ended_is_not_repeated(trainer: Trainer) -> None:
    """Killed after the last iteration and before publication: the next run finds the result and is done."""
    first, digest = trainer("run"), trainer.digest()
    assert (trainer("run", kill_at=1), trainer.digest()) == (first, digest)


@pytest.mark.parametrize("rate", [1e20, math.inf])
def test_a_loss_that_is_not_finite_names_its_examples(trainer: Trainer, rate: float) -> None:
    """It stops at once, with the examples of the minibatch and the last good checkpoint."""
    with pytest.raises(PunieError, match=r"not finite at iteration \d") as caught:
        trainer(optimizer="sgd", learning_rate=rate, save_every=1, grad_accumulation_steps=1)
    assert "train.jsonl:" in str(caught.value)
    assert "checkpoint" in str(caught.value)


def test_a_loss_that_is_not_finite_before_training_is_the_bases(trainer: Trainer) -> None:
    """At iteration 0 nothing is trained: neither the learning rate nor the examples are blamed."""
    fresh = trainer.fresh

    def broken(**options: Any) -> Any:
        model, description = fresh(**options)
        model.model.norm.weight = model.model.norm.weight * math.nan
        return model, description

    trainer.fresh = broken
    with pytest.raises(PunieError, match="base model's loss is not finite before training") as caught:
        trainer()
    assert "learning_rate" not in str(caught.value)


def test_a_loss_that_has_not_moved_is_pointed_out(trainer: Trainer) -> None:
    """With a vanishing rate the result carries a warning."""
    (warning,) = trainer(learning_rate=1e-12).warnings
    assert "has not moved" in warning


def test_gradient_checkpointing_gives_the_same_losses(trainer: Trainer) -> None:
    """It saves memory and changes rounding alone."""
    plain, again = trainer("plain", iters=4), trainer("again", iters=4, grad_checkpoint=True)
    assert again.valid_loss == pytest.approx(plain.valid_loss, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd", "adafactor"])
def test_every_optimizer_trains_and_resumes(trainer: Trainer, optimizer: str) -> None:
    """Each of mlx-lm's optimizers lowers the loss and survives a kill."""
    options: dict[str, Any] = {"optimizer": optimizer, "save_every": 2, "iters": 6}
    whole, expected = trainer("whole", **options), trainer.digest()
    assert whole.valid_loss < whole.first_valid_loss
    trainer.resumed(5, **options)
    assert trainer.digest() == expected


def test_a_schedule_counts_updates(trainer: Trainer) -> None:
    """Warm-up and decay go by updates; the rate in force is in the metrics."""
    schedule = {"name": "linear_schedule", "arguments": [1e-3, 0.0, 3], "warmup": 2, "warmup_init": 0.0}
    trainer(lr_schedule=schedule, iters=12, batch_size=1, val_batches=1, steps_per_eval=12)
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
def test_options_that_do_not_fit_are_named(changes: dict[str, Any], words: str) -> None:
    """A schedule or an optimizer option that mlx does not know is an error of the config."""
    with pytest.raises(PunieError, match=words):
        build_optimizer(loop.Recipe(**{**RECIPE, **changes}))


@pytest.mark.parametrize("kind", ["dora", "full"])
def test_other_kinds_of_fine_tuning(trainer: Trainer, kind: str) -> None:
    """DoRA on the attention, and whole layers, lower the loss and come out in mlx-lm's format."""
    keys = ["self_attn.q_proj", "self_attn.v_proj"] if kind == "dora" else None
    result = trainer(kind, attach={"fine_tune_type": kind, "keys": keys}, learning_rate=1e-3)
    assert result.valid_loss < result.first_valid_loss
    assert json.loads((trainer.out / adapter.CONFIG).read_text())["fine_tune_type"] == kind


def test_what_cannot_be_adapted_is_said(fresh: Any) -> None:
    """More layers than there are, keys that match nothing, DoRA on experts: each names what there is."""
    with pytest.raises(PunieError, match="at most 4"):
        fresh(num_layers=5)
    with pytest.raises(PunieError, match=r"self_attn\.q_proj"):
        fresh(keys=["nope"])
    with pytest.raises(PunieError, match=r"lora\.fine_tune_type=dora"):
        fresh(fine_tune_type="dora")


def test_the_metrics_stream_is_complete(trainer: Trainer) -> None:
    """Every record of the file was reported, and a train record has all its figures; nothing is warned of."""
    result = trainer()
    assert result.warnings == []
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


def test_every_assistant_turn_can_have_loss(tokenizer: Any) -> None:
    """all_turns computes loss on each answer and nothing between; last_turn only on the last."""
    from punie.formats.chat import Chat, Conversation
    from punie.formats.code_mode import FORMAT

    turns = [("system", "You are Punie."), ("user", "list"), ("assistant", "one"), ("user", "again")]
    messages = [{"role": role, "content": text} for role, text in [*turns, ("assistant", "two")]]
    chat = Chat(tokenizer, FORMAT)
    (every,), (last,) = (chat.examples(Conversation(messages), turns) for turns in ([2, 4], [4]))
    texts = [tokenizer.decode(every.tokens[start:end]) for start, end in every.spans]
    assert [text.replace("<|im_end|>", "").strip() for text in texts] == ["one", "two"]
    assert (last.tokens, last.spans) == (every.tokens, every.spans[1:])
