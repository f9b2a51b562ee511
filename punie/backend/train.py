"""LoRA training over mlx-lm's models and layers, as a function of the rows and the arguments alone.

Shape letters: B = rows in a batch, T = tokens of the longest of them, V = vocabulary.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optimizers
from mlx.utils import tree_flatten, tree_map
from mlx_lm.tuner.utils import linear_to_lora_layers

from punie.backend.order import mlx_seed, training_batches, validation_batches
from punie.errors import PunieError

PAD_TO = 8
"""Batches are padded to a multiple of this many tokens."""
ADAPTER = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Row:
    """One tokenized training example."""

    name: str
    """``file:line``, for messages."""
    tokens: list[int]
    prompt: int
    """Leading tokens that get no loss."""


@dataclass(frozen=True)
class Trained:
    """What a training run came to."""

    iters: int
    updates: int
    selected_iter: int
    """The iteration whose weights are the result."""
    train_loss: float
    """Mean over the last report window; nats per supervised token."""
    valid_loss: float
    """Of the selected weights; nats per supervised token."""
    first_valid_loss: float
    """Before the first update."""
    supervised_tokens: int
    tokens: int
    """Including prompts, excluding padding."""
    padding_share: float
    """Share of the computed positions that were padding."""
    tokens_per_second: float
    """Of training proper, validation excluded."""
    trainable: int
    """Trainable parameters."""
    parameters: int
    """All parameters of the model in memory."""


def attach_adapter(
    model: nn.Module,
    *,
    num_layers: int,
    rank: int,
    scale: float,
    dropout: float,
    keys: list[str] | None,
    seed: int,
    dora: bool = False,
) -> dict[str, Any]:
    """Freeze the model and give its last layers an adapter, drawn from its own stream of the seed.

    Returns:
        The adapter's description in mlx-lm's format (adapter_config.json).

    Raises:
        PunieError: The model has fewer layers, or none of the keys.
    """
    depth = len(model.layers)
    if num_layers > depth:
        raise PunieError(
            "The adapter has more layers than the model.",
            where="lora.num_layers",
            found=num_layers,
            expected=f"at most {depth}",
            next_step=f"lora.num_layers={depth}, or -1 for all",
        )
    parameters: dict[str, Any] = {"rank": rank, "scale": scale, "dropout": dropout}
    if keys is not None:
        parameters["keys"] = keys
    layers = depth if num_layers == -1 else num_layers
    model.freeze()
    mx.random.seed(mlx_seed(seed, "adapter"))
    try:
        linear_to_lora_layers(model, layers, parameters, use_dora=dora)
    except ValueError as error:
        raise PunieError("The adapter does not fit the model.", where="lora", found=error) from error
    if not tree_flatten(model.trainable_parameters()):
        raise PunieError("No layer of the model is adapted.", where="lora.keys", found=keys)
    mx.eval(model.trainable_parameters())
    return {"fine_tune_type": "dora" if dora else "lora", "num_layers": layers, "lora_parameters": parameters}


def train(
    model: nn.Module,
    rows: Sequence[Row],
    valid: Sequence[Row],
    *,
    out: Path,
    adapter_config: dict[str, Any],
    iters: int,
    batch_size: int,
    grad_accumulation_steps: int,
    learning_rate: float,
    optimizer: str,
    max_seq_length: int,
    steps_per_report: int,
    steps_per_eval: int,
    val_batches: int,
    save_every: int,
    select: str,
    grad_checkpoint: bool,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> Trained:
    """Train the adapter that ``attach_adapter`` gave the model, and write it to ``out``.

    The gradient of an update is that of the mean over all supervised tokens of its minibatches; a
    trailing window shorter than ``grad_accumulation_steps`` is applied too. Validation scores the same
    rows each time: before the first update, every ``steps_per_eval`` minibatches, at checkpoints where
    one is to be selected, and after the last update.

    Args:
        model: In training precision.
        rows: Training rows.
        valid: Validation rows.
        out: Folder for the adapter, ``train.jsonl`` and ``checkpoints/``.
        adapter_config: What ``attach_adapter`` returned.
        iters: Minibatches.
        batch_size: Rows to a minibatch.
        grad_accumulation_steps: Minibatches to an update.
        learning_rate: Constant.
        optimizer: ``adam`` or ``adamw``.
        max_seq_length: Tokens kept of a row.
        steps_per_report: Minibatches between ``train`` records.
        steps_per_eval: Minibatches between ``valid`` records.
        val_batches: Minibatches' worth of validation rows; -1 for all.
        save_every: Minibatches between checkpoints.
        select: ``last`` or ``best_val``.
        grad_checkpoint: Recompute activations in the backward pass.
        seed: Of data order, validation subset and dropout.
        report: Called with every record of ``train.jsonl`` and with ``{"iter": …}`` after each minibatch.

    Returns:
        What it came to.

    Raises:
        PunieError: The loss is not finite.
    """
    lengths = [min(len(row.tokens), max_seq_length) for row in rows]
    checks = validation_batches([len(row.tokens) for row in valid], batch_size, val_batches, seed)
    steps = _optimizer(optimizer, learning_rate)
    state = _Progress(report, out / "train.jsonl")
    mx.random.seed(mlx_seed(seed, "dropout"))
    best = (math.inf, 0)
    first_valid = valid_loss = math.nan
    with _checkpointed(model, grad_checkpoint), state:
        value_and_grad = nn.value_and_grad(model, _summed_loss)
        gradient, window_tokens, updates = None, 0, 0
        for it, batch in zip(range(1, iters + 1), training_batches(lengths, batch_size, seed), strict=False):
            if it == 1:
                first_valid = _validate(model, valid, checks, max_seq_length)
                state.valid(0, updates, first_valid)
            clock = time.perf_counter()
            model.train()
            array, bounds, real = _pad([rows[i] for i in batch], max_seq_length)
            loss, step_gradient = value_and_grad(model, array, bounds)
            supervised = _supervised([rows[i] for i in batch], max_seq_length)
            gradient = step_gradient if gradient is None else tree_map(mx.add, gradient, step_gradient)
            window_tokens += supervised
            if it % grad_accumulation_steps == 0 or it == iters:
                share = 1.0 / window_tokens
                steps.update(model, tree_map(lambda g, share=share: g * share, gradient))
                gradient, window_tokens, updates = None, 0, updates + 1
                mx.eval(model.trainable_parameters(), steps.state, loss)
            else:
                mx.eval(gradient, loss)
            total = _number(loss)
            if not math.isfinite(total):
                names = ", ".join(rows[i].name for i in batch)
                raise PunieError(
                    f"The loss is not finite at iteration {it}.",
                    where=names,
                    found=total,
                    next_step="lower lora.learning_rate or lora.scale, and look at the rows named above",
                )
            state.trained(it, updates, total, supervised, real, array.size, time.perf_counter() - clock)
            if it % steps_per_report == 0 or it == iters:
                state.flush(it, learning_rate)
            saving = it % save_every == 0 or it == iters
            if it % steps_per_eval == 0 or it == iters or (saving and select == "best_val"):
                valid_loss = _validate(model, valid, checks, max_seq_length)
                state.valid(it, updates, valid_loss)
            if saving:
                _save_adapter(model, out / "checkpoints" / f"{it:07d}", adapter_config)
                if valid_loss < best[0]:
                    best = (valid_loss, it)
    selected = best[1] if select == "best_val" else iters
    chosen = out / "checkpoints" / f"{selected:07d}"
    for name in (ADAPTER, ADAPTER_CONFIG):
        (out / name).write_bytes((chosen / name).read_bytes())
    return Trained(
        iters=iters,
        updates=updates,
        selected_iter=selected,
        train_loss=state.last_loss,
        valid_loss=best[0] if select == "best_val" else valid_loss,
        first_valid_loss=first_valid,
        supervised_tokens=state.supervised,
        tokens=state.tokens,
        padding_share=round(1 - state.tokens / state.positions, 6),
        tokens_per_second=round(state.tokens / state.seconds, 1),
        trainable=_count(model.trainable_parameters()),
        parameters=_count(model.parameters()),
    )


class _Progress:
    """The metrics stream: sums since the last record, totals, and the file."""

    def __init__(self, report: Callable[[dict[str, Any]], None], path: Path) -> None:
        self.report, self.path = report, path
        self.tokens = self.supervised = self.positions = 0
        self.seconds = 0.0
        self.last_loss = math.nan
        self._window = [0.0, 0, 0, 0.0]  # loss, supervised tokens, tokens, seconds
        self._updates = 0

    def __enter__(self) -> _Progress:
        self.stream = self.path.open("w")
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def trained(
        self, it: int, updates: int, loss: float, supervised: int, tokens: int, positions: int, seconds: float
    ) -> None:
        self.tokens += tokens
        self.supervised += supervised
        self.positions += positions
        self.seconds += seconds
        self._updates = updates
        self._window = [a + b for a, b in zip(self._window, (loss, supervised, tokens, seconds), strict=True)]
        self.report({"iter": it})

    def flush(self, it: int, learning_rate: float) -> None:
        loss, supervised, tokens, seconds = self._window
        self.last_loss = loss / supervised
        self._write(
            {
                "kind": "train",
                "iter": it,
                "update": self._updates,
                "loss": round(self.last_loss, 6),
                "learning_rate": learning_rate,
                "tokens": self.tokens,
                "supervised_tokens": self.supervised,
                "tokens_per_second": round(tokens / seconds, 1),
                "peak_memory_mb": round(mx.get_peak_memory() / 1e6, 1),
            }
        )
        self._window = [0.0, 0, 0, 0.0]

    def valid(self, it: int, updates: int, loss: float) -> None:
        self._write({"kind": "valid", "iter": it, "update": updates, "loss": round(loss, 6)})

    def _write(self, record: dict[str, Any]) -> None:
        self.stream.write(json.dumps(record) + "\n")
        self.stream.flush()
        self.report(record)


def _optimizer(name: str, learning_rate: float) -> optimizers.Optimizer:
    return {"adam": optimizers.Adam, "adamw": optimizers.AdamW}[name](learning_rate=learning_rate)


def _summed_loss(model: nn.Module, batch: mx.array, bounds: mx.array) -> mx.array:
    """Cross-entropy summed over the supervised positions, in nats.

    Args:
        model: The model.
        batch: Token ids, (B, T).
        bounds: First supervised token and end of each row, (B, 2).
    """
    logits = model(batch[:, :-1]).astype(mx.float32)  # (B, T - 1, V)
    position = mx.arange(1, batch.shape[1])
    mask = (position >= bounds[:, :1]) & (position < bounds[:, 1:])
    return (nn.losses.cross_entropy(logits, batch[:, 1:]) * mask).sum()


def _pad(rows: Sequence[Row], max_seq_length: int) -> tuple[mx.array, mx.array, int]:
    """Token ids (B, T) padded on the right, supervised bounds (B, 2), and the number of real tokens."""
    cut = [row.tokens[:max_seq_length] for row in rows]
    width = math.ceil(max(map(len, cut)) / PAD_TO) * PAD_TO
    batch = mx.array([tokens + [0] * (width - len(tokens)) for tokens in cut], dtype=mx.int32)
    bounds = mx.array([[max(row.prompt, 1), len(tokens)] for row, tokens in zip(rows, cut, strict=True)])
    return batch, bounds, sum(map(len, cut))


def _number(scalar: mx.array) -> float:
    return float(cast(float, scalar.item()))


def _count(parameters: Any) -> int:
    return sum(cast(mx.array, value).size for _, value in tree_flatten(parameters))


def _supervised(rows: Sequence[Row], max_seq_length: int) -> int:
    return sum(min(len(row.tokens), max_seq_length) - max(row.prompt, 1) for row in rows)


def _validate(model: nn.Module, rows: Sequence[Row], batches: list[list[int]], max_seq_length: int) -> float:
    """Mean loss over the supervised tokens of the fixed validation rows, in nats."""
    model.eval()
    total, supervised = 0.0, 0
    for batch in batches:
        chosen = [rows[i] for i in batch]
        array, bounds, _ = _pad(chosen, max_seq_length)
        total += _number(_summed_loss(model, array, bounds))
        supervised += _supervised(chosen, max_seq_length)
    return total / supervised


def _save_adapter(model: nn.Module, folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / ADAPTER), dict(tree_flatten(model.trainable_parameters())))
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=1) + "\n")


class _checkpointed:
    """Gradient checkpointing for the model's layers while the block runs, and not a moment longer."""

    def __init__(self, model: nn.Module, enabled: bool) -> None:
        self.kind = type(model.layers[0]) if enabled else None

    def __enter__(self) -> None:
        if self.kind is None:
            return
        self.plain = plain = self.kind.__call__

        def call(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
            def inner(parameters: Any, *args: Any, **kwargs: Any) -> Any:
                layer.update(parameters)
                return plain(layer, *args, **kwargs)

            return mx.checkpoint(inner)(layer.trainable_parameters(), *args, **kwargs)

        self.kind.__call__ = call

    def __exit__(self, *_: object) -> None:
        if self.kind is not None:
            self.kind.__call__ = self.plain
