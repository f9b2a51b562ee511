"""The training loop over mlx-lm's models: a function of the rows and the arguments alone.

Order, validation, reporting, checkpoints and resumption cannot influence one another
(docs/training.md says how mlx-lm's own loop differs, and why).

Shape letters: B = rows in a batch, T = tokens of the longest of them, V = vocabulary.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.utils import maybe_set_recommended_wired_limit

from punie.train import adapter
from punie.train.batches import Row, pad, width
from punie.train.checkpoints import Checkpoints
from punie.train.metrics import Metrics
from punie.train.order import mlx_seed, training_batches, validation_batches
from punie.train.recipe import Recipe, build_optimizer
from punie.util.errors import PunieError
from punie.util.files import flush, write_json

RESULT = "trained.json"
STUCK = 0.01
"""A validation loss that fell by less than this share has not moved."""


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    iters: int
    updates: int
    selected_iter: int
    """The iteration whose weights are the result."""
    resumed_from: int
    """The checkpoint this process went on from; 0 if it began at the beginning."""
    train_loss: float
    """Mean over the last report window; nats per supervised token."""
    valid_loss: float
    """Of the selected weights; nats per supervised token."""
    first_valid_loss: float
    """Before the first update."""
    supervised_tokens: int
    tokens: int
    """Prompts included, padding not."""
    padding_share: float
    """Share of the computed positions that were padding."""
    tokens_per_second: float
    """Of training proper, validation excluded."""
    trainable: int
    """Trainable parameters."""
    parameters: int
    """All parameters of the model in memory."""
    warnings: tuple[str, ...]
    """What a person should look at."""


def train(
    model: nn.Module,
    rows: Sequence[Row],
    valid: Sequence[Row],
    recipe: Recipe,
    *,
    out: Path,
    description: dict[str, Any],
    identity: str,
    report: Callable[[dict[str, Any]], None],
    score: Callable[[], float] | None = None,
    group: mx.distributed.Group | None = None,
) -> Trained:
    """Train what ``adapter.attach`` left unfrozen, or go on from the newest whole checkpoint in ``out``.

    With ``accumulation`` by token, an update's gradient is that of the mean over all supervised tokens of
    its minibatches; by batch, the mean of their means. A trailing window is applied too. Validation
    scores the same rows each time: before the first update, every ``steps_per_eval`` minibatches, at the
    checkpoints among which one is to be selected, and after the last update.

    Args:
        model: In training precision.
        rows: Training rows.
        valid: Validation rows.
        recipe: How to train.
        out: Folder for the adapter, ``train.jsonl`` and ``checkpoints/``; may hold those of a killed run.
        description: What ``adapter.attach`` returned; written beside the weights.
        identity: Digest of all that the training is a function of.
        report: Called with every record of ``train.jsonl``, and with ``{"iter": …}`` after a minibatch.
        score: Scores the model as it stands, for ``select=best_eval``.
        group: The workers of a data-parallel training: each computes its share of every batch, the sums
            are those of all, and rank 0 writes.

    Returns:
        What it came to.

    Raises:
        PunieError: The loss or the gradient is not finite; a checkpoint belongs to another training.
    """
    if (finished := _finished(out, identity)) is not None:
        return finished
    return _Training(model, rows, valid, recipe, out, description, identity, report, score, group).run()


def _finished(out: Path, identity: str) -> Trained | None:
    """What the training came to, if it had ended before its process did."""
    try:
        record = json.loads((out / RESULT).read_text())
    except FileNotFoundError:
        return None
    if record["identity"] != identity:
        return None
    Checkpoints(out / "checkpoints", identity).finish()
    known: dict[str, Any] = {**record["trained"], "warnings": tuple(record["trained"]["warnings"])}
    return Trained(**known)


class _Training:
    def __init__(
        self,
        model: nn.Module,
        rows: Sequence[Row],
        valid: Sequence[Row],
        recipe: Recipe,
        out: Path,
        description: dict[str, Any],
        identity: str,
        report: Callable[[dict[str, Any]], None],
        score: Callable[[], float] | None,
        group: mx.distributed.Group | None,
    ) -> None:
        self.model, self.rows, self.valid, self.recipe = model, rows, valid, recipe
        self.out, self.description, self.score, self.group = out, description, score, group
        self.rank, self.size = (group.rank(), group.size()) if group is not None else (0, 1)
        self.checks = validation_batches(
            [len(row.tokens) for row in valid], recipe.batch_size, recipe.val_batches, recipe.seed
        )
        self.optimizer = build_optimizer(recipe)
        self.optimizer.init(model.trainable_parameters())
        self.trainable = {name: cast(mx.array, p) for name, p in tree_flatten(model.trainable_parameters())}
        self.checkpoints = Checkpoints(out / "checkpoints", identity)
        self.metrics = Metrics(out / "train.jsonl" if self.rank == 0 else None, report)
        self.value_and_grad = nn.value_and_grad(model, summed_loss)
        self.gradient: dict[str, mx.array] = {}  # by parameter, summed over the window so far
        self.weight = 0.0  # what the sum is to be divided by
        self.window: list[str] = []  # names of the rows in it
        self.best: tuple[tuple[float, ...], int] | None = None

    def run(self) -> Trained:
        recipe, metrics = self.recipe, self.metrics
        old_limit = maybe_set_recommended_wired_limit()
        resumed = self._resume()
        batches = training_batches([len(row.tokens) for row in self.rows], recipe.batch_size, recipe.seed)
        try:
            with _checkpointed(self.model, recipe.grad_checkpoint):
                if resumed == 0:
                    metrics.totals.first_valid = self._validate(0)
                for it, batch in enumerate(itertools.islice(batches, resumed, recipe.iters), resumed + 1):
                    self._step(it, batch)
                    if it % recipe.steps_per_report == 0 or it == recipe.iters:
                        metrics.flush(
                            it,
                            learning_rate=_number(self.optimizer.learning_rate),
                            gradient_norm=_known(metrics.totals.gradient_norm),
                            peak_memory_mb=round(mx.get_peak_memory() / 1e6, 1),
                        )
                    saving = it % recipe.save_every == 0 or it == recipe.iters
                    selecting = saving and recipe.select != "last"
                    if it % recipe.steps_per_eval == 0 or it == recipe.iters or selecting:
                        self._validate(it)
                    if saving:
                        self._save(it)
        finally:
            metrics.close()
            if old_limit is not None:
                mx.set_wired_limit(old_limit)
        return self._finish(resumed)

    def _step(self, it: int, batch: list[int]) -> None:
        """One minibatch, and the update if it closes a window."""
        recipe, clock = self.recipe, time.perf_counter()
        chosen = [self.rows[index] for index in batch]
        supervised = sum(row.supervised for row in chosen)
        self.model.train()
        mx.random.seed(mlx_seed(recipe.seed, "dropout", it, self.rank))  # so that no state is to be resumed
        shares = [chosen[rank :: self.size] for rank in range(self.size)]
        loss, gradient = mx.array(0.0), None
        if own := shares[self.rank]:  # a last batch can be smaller than the workers are many
            loss, gradient = self.value_and_grad(self.model, *pad(own))
        by_token = recipe.accumulation == "per_token"
        share = 1.0 if by_token else 1.0 / supervised
        for name, value in tree_flatten(gradient) if gradient is not None else ():
            self.gradient[name] = self.gradient.get(name, 0.0) + cast(mx.array, value) * share
        self.weight += supervised if by_token else 1
        closing = it % recipe.grad_accumulation_steps == 0 or it == recipe.iters
        if self.group is not None:
            loss = mx.distributed.all_sum(loss, group=self.group)
        if closing:
            loss = self._update(loss)
        else:
            mx.eval(self.gradient, loss)
        total = _number(loss)
        self.window += [row.name for row in chosen]
        if not math.isfinite(total) or (closing and not math.isfinite(self.metrics.totals.gradient_norm)):
            raise self._not_finite(it, total)
        if closing:
            self.window = []
        self.metrics.trained(
            it,
            total,
            supervised=supervised,
            tokens=sum(len(row.tokens) for row in chosen),
            positions=sum(len(share) * width(share) for share in shares if share),
            seconds=time.perf_counter() - clock,
        )

    def _update(self, loss: mx.array) -> mx.array:
        gradient = {}
        for name, like in self.trainable.items():
            value = self.gradient.get(name, mx.zeros_like(like))  # none, if this worker had no row
            if self.group is not None:
                value = mx.distributed.all_sum(value, group=self.group)
            gradient[name] = value / self.weight
        norm = mx.sqrt(mx.stack([mx.square(g.astype(mx.float32)).sum() for g in gradient.values()]).sum())
        self.optimizer.update(self.model, tree_unflatten(list(gradient.items())))
        mx.eval(self.model.trainable_parameters(), self.optimizer.state, loss, norm)
        self.metrics.totals.gradient_norm = _number(norm)
        self.gradient, self.weight = {}, 0.0
        self.metrics.totals.updates += 1
        return loss

    def _validate(self, it: int) -> float:
        """Mean loss over the supervised tokens of the fixed validation rows, in nats."""
        self.model.eval()
        total, supervised = mx.array(0.0), 0
        for batch in self.checks:
            chosen = [self.valid[index] for index in batch]
            supervised += sum(row.supervised for row in chosen)
            if own := chosen[self.rank :: self.size]:
                total = total + summed_loss(self.model, *pad(own))
                mx.eval(total)
        if self.group is not None:
            total = mx.distributed.all_sum(total, group=self.group)
        loss = _number(total) / supervised
        if not math.isfinite(loss):
            self.window = [self.valid[index].name for batch in self.checks for index in batch][:8]
            raise self._not_finite(it, loss)
        self.metrics.totals.last_valid = loss
        self.metrics.write("valid", it, loss=round(loss, 6))
        return loss

    def _save(self, it: int) -> None:
        """Publish a checkpoint, and see whether it is the best so far."""
        recipe = self.recipe
        if recipe.select != "last":
            merit: tuple[float, ...] = (-self.metrics.totals.last_valid,)
            if self.score is not None:
                self.model.eval()
                value = self.score()
                self.metrics.write("select", it, score=round(value, 6))
                merit = (value, *merit)
            if self.best is None or merit > self.best[0]:
                self.best = (merit, it)
        if self.rank != 0:
            return
        arrays = {
            **_prefixed("optimizer", self.optimizer.state),
            **_prefixed("gradient", self.gradient),
        }
        state = {
            "metrics": self.metrics.state(),
            "weight": self.weight,
            "best": list(self.best) if self.best else None,
        }
        self.checkpoints.save(
            it, lambda folder: adapter.save(self.model, folder, self.description), arrays, state
        )
        self.checkpoints.thin(recipe.keep_checkpoints, [self.best[1]] if self.best else [])

    def _resume(self) -> int:
        """Take up the newest whole checkpoint; returns the iterations it has done."""
        found = self.checkpoints.newest()
        if found is None:
            if self.metrics.path is not None:
                self.metrics.restore({"position": 0})
            return 0
        state, arrays, folder = found
        self.model.load_weights(str(folder / adapter.WEIGHTS), strict=False)
        groups: dict[str, list[tuple[str, mx.array]]] = {"optimizer": [], "gradient": []}
        for name, value in arrays.items():
            group, _, key = name.partition("/")
            if group in groups:
                groups[group].append((key, value))
        self.optimizer.state = tree_unflatten(groups["optimizer"])
        self.gradient = dict(groups["gradient"])
        self.weight = state["weight"]
        self.best = (tuple(state["best"][0]), state["best"][1]) if state["best"] else None
        self.metrics.restore(state["metrics"])
        mx.eval(self.model.trainable_parameters(), self.optimizer.state, self.gradient)
        return int(state["iter"])

    def _finish(self, resumed: int) -> Trained:
        recipe, totals = self.recipe, self.metrics.totals
        selected = self.best[1] if self.best else recipe.iters
        if self.rank == 0:
            for name in (adapter.WEIGHTS, adapter.CONFIG):
                shutil.copyfile(self.checkpoints.path(selected) / name, self.out / name)
                flush(self.out / name)  # before the record below, which vouches for it
        valid_loss = -self.best[0][-1] if self.best else totals.last_valid
        warnings = []
        if not valid_loss < totals.first_valid * (1 - STUCK):
            warnings.append(
                f"the validation loss has not moved: {totals.first_valid:.4f} before, {valid_loss:.4f} after "
                f"{totals.updates} updates; raise lora.learning_rate or lora.iters, or look at the data"
            )
        trained = Trained(
            iters=recipe.iters,
            updates=totals.updates,
            selected_iter=selected,
            resumed_from=resumed,
            train_loss=totals.train_loss,
            valid_loss=valid_loss,
            first_valid_loss=totals.first_valid,
            supervised_tokens=totals.supervised,
            tokens=totals.tokens,
            padding_share=round(1 - totals.tokens / totals.positions, 6),
            tokens_per_second=round(totals.tokens / totals.seconds, 1),
            trainable=_count(self.model.trainable_parameters()),
            parameters=_count(self.model.parameters()),
            warnings=tuple(warnings),
        )
        if self.rank == 0:  # from here on a kill costs nothing: the next run reads this and is done
            record = {"identity": self.checkpoints.identity, "trained": asdict(trained)}
            write_json(self.out / RESULT, record)
            self.checkpoints.finish()
        return trained

    def _not_finite(self, it: int, loss: float) -> PunieError:
        last = self.checkpoints.newest()
        kept = f"the last good checkpoint is {last[2]}" if last else "there is no checkpoint before it"
        return PunieError(
            f"The {'loss' if not math.isfinite(loss) else 'gradient'} is not finite at iteration {it}.",
            where=", ".join(self.window),
            found=f"loss {loss}, gradient norm {self.metrics.totals.gradient_norm}; {kept}",
            next_step="lower lora.learning_rate or lora.scale, and look at the rows named above",
        )


def summed_loss(model: nn.Module, tokens: mx.array, mask: mx.array) -> mx.array:
    """Cross-entropy summed over the supervised positions, in nats.

    Args:
        model: The model.
        tokens: Token ids, (B, T).
        mask: 1 where the next token is supervised, (B, T - 1).
    """
    logits = model(tokens[:, :-1]).astype(mx.float32)  # (B, T - 1, V)
    return (nn.losses.cross_entropy(logits, tokens[:, 1:]) * mask).sum()


def join_workers() -> mx.distributed.Group:
    """The group of the processes that ``mlx.launch`` started with this one."""
    return mx.distributed.init(strict=True, backend="ring")


def _prefixed(name: str, tree: Any) -> dict[str, mx.array]:
    return {f"{name}/{key}": cast(mx.array, value) for key, value in tree_flatten(tree)}


def _number(scalar: mx.array) -> float:
    return float(cast(float, scalar.item()))


def _known(value: float) -> float | None:
    """The value, rounded; None, which JSON has, for one that is not known yet."""
    return round(value, 6) if math.isfinite(value) else None


def _count(parameters: Any) -> int:
    return sum(cast(mx.array, value).size for _, value in tree_flatten(parameters))


@contextmanager
def _checkpointed(model: nn.Module, enabled: bool) -> Generator[None]:
    """Gradient checkpointing for the model's layers while the block runs, and not a moment longer."""
    kind = type(model.layers[0])
    plain = kind.__call__
    if enabled:

        def call(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
            def inner(parameters: Any, *args: Any, **kwargs: Any) -> Any:
                layer.update(parameters)
                return plain(layer, *args, **kwargs)

            return mx.checkpoint(inner)(layer.trainable_parameters(), *args, **kwargs)

        kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = plain
