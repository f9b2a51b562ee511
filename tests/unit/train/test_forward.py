"""The shortened forward pass has the whole one's losses and gradients; kept states have the computed bits."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from punie.model.trainable import unfreeze
from punie.train import forward, states
from punie.train.batches import Batch, Row, pad
from punie.train.forward import Forward, Parts, common, fit
from punie.train.methods.sft import Sft
from punie.train.states import States, name_of
from tests.integration.test_architectures import COMMON, CONFIGS
from tests.unit.train.conftest import Trainer

LAYERS, CUT = 4, 2
KINDS: dict[str, dict[str, Any]] = CONFIGS | {
    "lfm2": CONFIGS["lfm2"] | {"layer_types": ["conv", "full_attention"] * 2},
    "gemma3_text": {"sliding_window": 16, "sliding_window_pattern": 2},
    "qwen2": {},
    "phi3": {},
}
ROWS = [
    Row("a", [5, 9, 2, 7, 7, 30, 31, 4], ((5, 8),)),
    Row("b", list(range(1, 22)), ((3, 6), (15, 21))),
    Row("c", [8, 8, 1], ((1, 3),)),
]


def make(kind: str, *, layers: int = LAYERS - CUT, keys: list[str] | None = None, **changes: Any) -> Any:
    """A random model whose last layers have an adapter with random weights."""
    config: dict[str, Any] = COMMON | {
        "model_type": kind,
        "num_hidden_layers": LAYERS,
        "vocab_size": 256,
        "eos_token_id": 2,
    }
    config |= KINDS[kind] | changes
    if "text_config" in config:
        config["text_config"] = config | config["text_config"]
    arch = importlib.import_module(f"mlx_lm.models.{kind}")
    mx.random.seed(3)
    model = arch.Model(arch.ModelArgs.from_dict(config))
    model.set_dtype(mx.float32)
    unfreeze(model, fine_tune_type="lora", num_layers=layers, rank=4, scale=4.0, dropout=0.0, keys=keys)
    model.update(tree_map(lambda a: a + mx.random.normal(a.shape, scale=0.05), model.trainable_parameters()))
    mx.eval(model.parameters())
    return model


def whole(model: Any, batch: Batch) -> mx.array:
    """The mean loss, with everything computed."""
    logits = model(batch.ids[:, :-1]).reshape(-1, 256)[batch.where]
    return nn.losses.cross_entropy(logits, batch.targets).mean()


def require_equal(model: Any, how: Forward, rows: list[Row] = ROWS) -> None:
    """The mean loss and every gradient are those of the whole model."""
    right, gradient = nn.value_and_grad(model, whole)(model, pad(rows, None))
    batch = how.batch(rows)
    ours, shortened = nn.value_and_grad(model, lambda model, batch: how.losses(model, batch).mean())(
        model, batch
    )
    assert ours.item() == pytest.approx(right.item(), rel=1e-5)
    found = dict(cast("list[tuple[str, mx.array]]", tree_flatten(shortened)))
    expected = dict(cast("list[tuple[str, mx.array]]", tree_flatten(gradient)))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        difference, size = np.abs(np.asarray(found[name] - array)).max(), np.abs(np.asarray(array)).max()
        assert difference <= 1e-4 * max(size, 1e-4), name


def with_states(model: Any, how: Forward) -> Forward:
    parts = Parts(model, how.arity, how.opening)
    how.states = States(lambda tokens: parts.below(how.cut, tokens), left=how.left) if how.cut else None
    return how


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_whole_models(kind: str) -> None:
    """Of every architecture; the layers stay where they were."""
    model = make(kind)
    names = [name for name, _ in tree_flatten(model.parameters())]
    how = with_states(model, fit(model, frozen=True))
    assert (how.cut, how.only_loss, how.note) == (CUT, True, None)
    require_equal(model, how)
    assert [name for name, _ in tree_flatten(model.parameters())] == names
    assert not any(isinstance(layer, forward._StandIn) for layer in model.layers)


OPENING = [11, 3, 60, 4, 9]
OPENED = [
    Row(row.name, [*OPENING, *row.tokens], tuple((start + 5, end + 5) for start, end in row.spans))
    for row in ROWS
]


@pytest.mark.parametrize("layers", [LAYERS - CUT, -1], ids=["frozen layers", "all trained"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_opening_is_computed_once(kind: str, layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient through it is that of every example; a layer that keeps no keys computes it with each."""
    monkeypatch.setattr(forward, "SHARED", 5)
    model = make(kind, layers=layers)
    how = fit(model, frozen=True)
    how.share(model, OPENED)
    if kind == "lfm2":
        assert how.opening is None
        assert "keeps something else than keys and values" in (how.note or "")
    else:
        assert how.note is None
        assert how.opening is not None
        assert how.opening.ids.tolist() == [OPENING]
    require_equal(model, with_states(model, how), OPENED)


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        (OPENED, 5),
        ([*OPENED, ROWS[0]], 0),
        (OPENED[:1], 9),  # its first token with loss is predicted by the one at 9
        ([OPENED[0], Row("d", [*OPENING, 1, 2], ((3, 5),))], 2),
    ],
    ids=["all", "not all", "one", "before the loss"],
)
def test_an_opening_ends_before_what_is_predicted(rows: list[Row], length: int) -> None:
    assert common(rows) == length


def test_logits_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few logits at a time give the same gradient."""
    monkeypatch.setattr(forward, "LOGITS", 256 * 4)
    model = make("qwen3")
    require_equal(model, with_states(model, fit(model, frozen=True)))


@pytest.mark.parametrize(
    ("changes", "cut", "only_loss", "note"),
    [
        ({"layers": -1}, 0, True, None),
        ({"keys": ["self_attn.q_proj", "model.embed_tokens"]}, 0, True, None),
        ({"keys": ["self_attn.q_proj", "lm_head"], "tie_word_embeddings": False}, 0, True, None),
    ],
    ids=["all layers", "embedding", "head"],
)
def test_what_is_trained_beside_the_layers(
    changes: dict[str, Any], cut: int, only_loss: bool, note: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before the layers leaves nothing frozen; what comes after them has its gradient, too."""
    monkeypatch.setattr(forward, "LOGITS", 256 * 4)
    model = make("qwen3", **changes)
    how = fit(model, frozen=True)
    assert (how.cut, how.only_loss, how.note) == (cut, only_loss, note)
    require_equal(model, how)


def test_a_model_that_does_not_work_so_is_computed_whole() -> None:
    """Layers that read an earlier one's keys and values, and a switch that says so."""
    model = make("gemma4_text", num_kv_shared_layers=2)
    how = with_states(model, fit(model, frozen=True))
    assert how.cut == 0
    assert "frozen layers does not work with this model" in (how.note or "")
    assert how.only_loss
    require_equal(model, how)
    assert fit(make("qwen3"), frozen=False).cut == 0


def test_kept_states_have_the_computed_bits(tmp_path: Path) -> None:
    """Written once for equal examples, and read as they were computed, in any type."""
    for dtype in (mx.float32, mx.bfloat16):
        model = make("qwen3")
        model.set_dtype(dtype)

        def compute(tokens: Any, model: Any = model) -> mx.array:
            return Parts(model).below(CUT, tokens)

        folder = tmp_path / str(dtype)
        folder.mkdir()
        counts: list[int] = []
        info = states.write(compute, [*ROWS, ROWS[0]], folder, counts.append)
        assert (info["examples"], counts) == (3, [1, 2, 3])
        assert info["bytes"] > states.bytes_of(compute, ROWS)
        kept, computed = States(lambda _: pytest.fail("it is kept")), States(compute)
        kept.read(folder)
        assert kept.of(ROWS).dtype == dtype
        assert mx.array_equal(kept.of(ROWS), computed.of(ROWS))
        assert not mx.any(kept.of(ROWS)[2, 2:]).item()


def test_only_examples_that_come_again_are_held() -> None:
    calls: list[int] = []

    def compute(tokens: Any) -> mx.array:
        calls.append(len(tokens))
        return mx.zeros((len(tokens), 8))

    found = States(compute, held=frozenset({name_of(ROWS[0])}))
    for _ in range(2):
        found.of(ROWS)
    assert calls == [7, 20, 2, 20, 2]


@pytest.mark.parametrize("least", [forward.SHARED, 4], ids=["whole", "opening"])
def test_a_training_ends_with_the_same_bytes(
    least: int, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the states were read or computed, also when it was killed between; near the whole model's."""
    monkeypatch.setattr(forward, "SHARED", least)
    attach: dict[str, Any] = {"num_layers": 2}
    trainer.splits = {"train": trainer.splits["train"][:8], "valid": trainer.splits["valid"][:4]}
    rows = (*trainer.splits["train"], *trainer.splits["valid"])
    model, _ = trainer.fresh(**attach)
    how = fit(model, frozen=True)
    how.share(model, rows)
    assert how.cut == len(model.layers) - 2
    assert (how.opening is not None) == (least == 4)
    parts = Parts(model, how.arity, how.opening)

    def compute(tokens: Any) -> mx.array:
        return parts.below(how.cut, tokens)

    folder = tmp_path / "kept"
    folder.mkdir()
    states.write(compute, rows, folder)
    kept = States(compute, left=how.left)
    kept.read(folder)
    methods = {
        name: Sft(Forward(how.cut, given, opening=how.opening), {})
        for name, given in (("computed", States(compute, left=how.left)), ("kept", kept))
    }
    digests = {}
    for name, method in methods.items():
        trainer(name, method=method, attach=attach)
        digests[name] = trainer.digest()
    trainer.resumed(5, method=methods["kept"], attach=attach, save_every=3)
    assert {trainer.digest(), *digests.values()} == {digests["kept"]}
    losses = [record["loss"] for record in trainer.kind("valid")]
    trainer("whole", attach=attach)
    assert losses[-1] == pytest.approx(trainer.kind("valid")[-1]["loss"], rel=1e-4)
    assert np.isfinite(losses).all()
