"""The frozen layers' output in the store: built where it pays, shared, rebuilt, and never needed."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from punie.config import resolve as check
from punie.config.compose import compose
from punie.model import blas, folders
from punie.stages import tokens, training
from punie.stages import train as trains
from punie.store.artifact import verified
from punie.store.artifacts import Store
from punie.store.keys import file_digest
from punie.train import adapter, states
from punie.train.batches import save_rows
from punie.util.paths import resource
from tests.conftest import FIXTURES

Train = Callable[..., tuple[str, list[str]]]
ROWS = 6


@pytest.fixture
def train(splits: dict[str, list[Any]], tmp_path: Path) -> Train:
    """Trains tiny's last two layers; returns the adapter's digest and the notes."""
    blas.activate()
    for split, rows in splits.items():
        save_rows(tmp_path / f"{split}.safetensors", rows[:ROWS])

    def run(name: str, *overrides: str) -> tuple[str, list[str]]:
        given = [
            "model=tiny",
            "lora.num_layers=2",
            "lora.iters=2",
            "lora.batch_size=2",
            "lora.val_batches=1",
            *overrides,
        ]
        config = check(compose(given))
        out, notes = tmp_path / name, []
        out.mkdir()
        job = training.Job(
            out=str(out), base=str(resource("data/models/tiny")), base_key="b" * 64,
            train=str(tmp_path / "train.safetensors"), valid=str(tmp_path / "valid.safetensors"),
            lock=str(tmp_path / "lock"), parent=0, lora=dataclasses.asdict(config.lora), format="code_mode",
            tools=[], options={}, system="", select_suite=None, float32=True, blas=True, threads=1,
            store=str(tmp_path / "store"),
        )  # fmt: skip
        trained = training.work(job, lambda each: notes.append(each.get("kind")))
        notes += [each for each in trained["warnings"] if "has not moved" not in each]
        return file_digest(out / adapter.WEIGHTS), [
            note for note in notes if note not in ("train", "valid", "doing", None)
        ]

    return run


def test_it_is_kept_where_it_pays_and_never_decides(
    train: Train, splits: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept or computed, damaged or without room: the adapter has the same bytes; what happened is said."""
    store = Store(tmp_path / "store")
    rows = len({states.name_of(row) for split in splits.values() for row in split[:ROWS]})
    expected, notes = train("auto")
    assert (notes, [*store.artifacts("frozen")]) == ([], [])
    digest, notes = train("small", "lora.cache_frozen=on", "lora.cache_gb=0.0001")
    assert digest == expected
    assert "is over lora.cache_gb" in notes[0]
    with monkeypatch.context() as patched:
        patched.setattr(states, "write", full)
        digest, notes = train("full", "lora.cache_frozen=on")
        assert digest == expected
        assert "cannot be kept" in notes[0]
        assert "No space left" in notes[0]
    assert train("on", "lora.cache_frozen=on") == (expected, ["frozen"] * rows)
    (kept,) = store.artifacts("frozen")
    assert train("auto again") == (expected, [])
    with (kept.path / "model.safetensors").open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"xxxxx")
    verified.clear()
    assert train("damaged", "lora.cache_frozen=on") == (expected, ["frozen"] * rows)
    other, notes = train("seed", "lora.seed=1", "lora.cache_frozen=on")
    assert (other != expected, notes, len([*store.artifacts("frozen")])) == (True, [], 1)


def test_off_is_in_the_key_where_something_is_frozen() -> None:
    """cache_frozen=off rounds otherwise, and so has its own key, unless every layer is trained."""
    for layers, differs in ((2, True), (4, False), (-1, False)):
        configs = [
            check(compose([f"lora.num_layers={layers}", f"lora.cache_frozen={how}"]))
            for how in ("auto", "off")
        ]
        kept, computed = (trains.STAGE.contents(trains.STAGE.settings(each)) for each in configs)
        assert (kept != computed) == differs


def full(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_length_is_known_beforehand(tmp_path: Path, tokenizer: Any) -> None:
    """An epoch is every example once, in batches of which the last may be smaller; a row counts as one
    example until the examples are rendered."""
    given = [f"data.path={FIXTURES / 'data'}", f"store.dir={tmp_path}", "lora.grad_accumulation_steps=4"]
    lora = check(compose([*given, "lora.epochs=3", "lora.batch_size=4"])).lora
    assert trains.length(lora, 10)[:3] == (9, 3, 10)
    assert trains.length(lora, 10).in_words == "9 iterations, 3 optimizer steps: 3 epochs of 10 examples"
    patient = dataclasses.replace(lora, patience=2, save_every=2)
    assert trains.length(patient, 10).in_words.endswith(
        "it stops after 2 checkpoints without improvement (there is one every 2 iterations)"
    )
    assert "cannot stop it" in trains.length(dataclasses.replace(patient, save_every=3), 10).in_words
    settings = trains.STAGE.settings(check(compose([*given, "lora.iters=7", "lora.batch_size=2"])))
    about, certain = trains.planned(settings)
    assert (about[:2], certain) == ((7, 2), False)
    digests = folders.tokenizer_contents(resource("data/models/tiny"))
    rendered = tokens.tokenized(settings, "train.jsonl", tokenizer, digests).info["rows"]
    assert trains.length(settings.lora, 64).in_words.startswith(
        "7 iterations, 2 optimizer steps: 0.219 epochs of"
    )
    assert trains.planned(settings) == (trains.length(settings.lora, rendered), True)
    assert about.examples == rendered


def test_adafactor_says_that_it_uses_no_learning_rate(train: Train) -> None:
    """Unless it is told to: by itself it ignores ``lora.learning_rate``."""
    own = [note for note in train("own", "lora.optimizer=adafactor")[1] if "adafactor" in note]
    assert "lora.learning_rate is not used" in own[0]
    given = train("given", "lora.optimizer=adafactor", "+lora.optimizer_config.relative_step=false")[1]
    assert not any("adafactor" in note for note in given)
