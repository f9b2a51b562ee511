"""The training loop over mlx-lm's models. Its result depends on the examples and the arguments alone.

Order, validation, reporting, checkpoints and resumption cannot influence one another (docs/training.md says
how mlx-lm's own loop differs, and why). The loss is the method's (``punie.train.methods``).
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from punie.model.compat import gradient_checkpointing, wired_memory
from punie.train import adapter
from punie.train.batches import Row, mlx_seed, training_batches, validation_batches
from punie.train.callbacks import MetricsFile, Record
from punie.train.checkpoints import Checkpoints
from punie.train.methods import Loss, Method
from punie.train.metrics import Totals, Trained
from punie.train.recipe import Recipe, build_optimizer
from punie.util.errors import PunieError
from punie.util.files import flush, write_json

RESULT = "trained.json"
STUCK = 0.01
"""A validation loss that fell by less than this share has not moved."""


@dataclass
class Training:
    """One training of what ``adapter.attach`` left unfrozen.

    With ``accumulation`` by token, an update's gradient is that of the mean over the window's whole weight
    (sft: its tokens with loss); by batch, it is the mean of the micro-batches' means. A window that the end
    cuts short is applied too. Validation scores the same examples each time: before the first update, every
    ``steps_per_eval`` micro-batches, at the checkpoints among which one is to be selected, and at the end.
    With ``patience`` it ends before, once so many checkpoints in a row were no better than the best.
    """

    model: nn.Module
    """In training precision."""
    method: Method[Any, Any]
    examples: Sequence[Row]
    """The method's training examples."""
    valid: Sequence[Row]
    """Its validation examples."""
    recipe: Recipe
    out: Path
    """Folder for the adapter, ``train.jsonl`` and ``checkpoints/``; may hold those of a killed run."""
    description: dict[str, Any]
    """What ``adapter.attach`` returned; written beside the weights."""
    identity: str
    """Digest of all that the training depends on."""
    report: Callable[[Record], None]
    """Called with every record of ``train.jsonl``, and with ``{"iter": …}`` after each micro-batch."""
    score: Callable[[], float] | None = None
    """Scores the model as it stands, for ``select=best_eval``."""
    group: mx.distributed.Group | None = None
    """The workers of a data-parallel training: each computes its share of every batch, and rank 0 writes."""

    def __post_init__(self) -> None:
        recipe, group = self.recipe, self.group
        self.rank, self.size = (group.rank(), group.size()) if group is not None else (0, 1)
        self.checks = validation_batches(
            _lengths(self.valid), recipe.batch_size, recipe.val_batches, recipe.seed
        )
        self.optimizer = build_optimizer(recipe)
        self.optimizer.init(self.model.trainable_parameters())
        self.checkpoints = Checkpoints(self.out / "checkpoints", self.identity)
        self.value_and_grad = nn.value_and_grad(self.model, self.method.loss)
        self.totals = Totals()
        self.stream: MetricsFile | None = None
        self.gradient: dict[str, mx.array] = {}  # by parameter, summed over the window so far
        self.weight = 0.0  # what the sum is to be divided by
        self.window: list[str] = []  # names of its examples
        self.best: tuple[tuple[float, ...], int] | None = None  # merit and iteration

    def run(self) -> Trained:
        """Train, or continue from the newest whole checkpoint in ``out``.

        Raises:
            PunieError: The loss or the gradient is not finite; a checkpoint belongs to another training.
        """
        if (finished := self._finished()) is not None:
            return finished
        recipe = self.recipe
        self.stream = MetricsFile(self.out) if self.rank == 0 else None
        try:
            resumed = self._resume()
            batches = training_batches(_lengths(self.examples), recipe.batch_size, recipe.seed)
            with wired_memory(), gradient_checkpointing(self.model, recipe.grad_checkpoint):
                if resumed == 0:
                    self.totals.first_valid = self._validate(0)
                it, batches = resumed, itertools.islice(batches, resumed, None)
                while it < recipe.iters and not self._waited(it):
                    it += 1
                    self._step(it, next(batches))
                    self._after(it)
                if self.totals.window_weight:  # patience ended it
                    self._tell(it)
        finally:
            if self.stream is not None:
                self.stream.close()
        return self._finish(it, resumed)

    def _finished(self) -> Trained | None:
        """The outcome of a training that ended, but whose process was killed before it was published."""
        path = self.out / RESULT
        record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if record.get("identity") != self.identity:
            return None
        self.checkpoints.finish()
        return Trained(**record["trained"])

    def _step(self, it: int, indices: Sequence[int]) -> None:
        """Train on one micro-batch, and update the weights if it closes an accumulation window."""
        recipe, clock = self.recipe, time.perf_counter()
        examples = [self.examples[index] for index in indices]
        self.window += [example.name for example in examples]
        self.model.train()
        mx.random.seed(mlx_seed(recipe.seed, "dropout", it, self.rank))  # so that no state is to be resumed
        loss, gradient, counts = None, None, (0.0, 0, 0, 0)
        if own := examples[self.rank :: self.size]:  # the last batch may have fewer examples than workers
            batch = self.method.batch(own, it)
            loss, gradient = self.value_and_grad(self.model, batch)
            counts = (loss.weight, batch.tokens, batch.supervised, batch.positions)
        weight, tokens, supervised, positions = self._over_workers(*counts)
        by_token = recipe.accumulation == "per_token"
        share = 1.0 if by_token else 1.0 / weight
        for name, value in tree_flatten(gradient) if gradient is not None else ():
            self.gradient[name] = self.gradient.get(name, 0.0) + cast(mx.array, value) * share
        self.weight += weight if by_token else 1
        sums = [self._summed(value) for value in self._own(loss)]
        closing = it % recipe.grad_accumulation_steps == 0 or it == recipe.iters
        if closing:
            self._update(sums)
        else:
            mx.eval(self.gradient, sums)
        total, *logged = map(_number, sums)
        if not math.isfinite(total) or (closing and not math.isfinite(self.totals.gradient_norm)):
            raise self._not_finite(it, total)
        if closing:
            self.window = []
        self.totals.add(
            loss=total,
            weight=weight,
            log=dict(zip(self.method.logged, logged, strict=True)),
            tokens=int(tokens),
            supervised=int(supervised),
            positions=int(positions),
            seconds=time.perf_counter() - clock,
        )
        self.report({"iter": it})

    def _update(self, sums: list[mx.array]) -> None:
        """Apply the window's gradient; evaluates ``sums`` with it."""
        gradient = {}
        for name, like in tree_flatten(self.model.trainable_parameters()):
            value = self.gradient.get(
                name, mx.zeros_like(cast(mx.array, like))
            )  # if this worker had no example
            gradient[name] = self._summed(value) / self.weight
        norm = mx.sqrt(mx.stack([mx.square(g.astype(mx.float32)).sum() for g in gradient.values()]).sum())
        self.optimizer.update(self.model, tree_unflatten(list(gradient.items())))
        mx.eval(self.model.trainable_parameters(), self.optimizer.state, sums, norm)
        self.totals.gradient_norm = _number(norm)
        self.totals.updates += 1
        self.gradient, self.weight = {}, 0.0

    def _after(self, it: int) -> None:
        """Report, validate and save, where a micro-batch is one to do so after."""
        recipe, last = self.recipe, it == self.recipe.iters
        if it % recipe.steps_per_report == 0 or last:
            self._tell(it)
        saving = it % recipe.save_every == 0 or last
        if it % recipe.steps_per_eval == 0 or last or (saving and recipe.select != "last"):
            self._validate(it)
        if saving:
            self._save(it)

    def _tell(self, it: int) -> None:
        """Record the training since the last such record."""
        norm, rate = self.totals.gradient_norm, _number(self.optimizer.learning_rate)
        figures = self.totals.close_window(
            learning_rate=rate if math.isfinite(rate) else None,  # a schedule may grow without end
            gradient_norm=round(norm, 6) if math.isfinite(norm) else None,
            peak_memory_mb=round(mx.get_peak_memory() / 1e6, 1),
        )
        self._record("train", it, **figures)

    def _validate(self, it: int) -> float:
        """The mean loss over the fixed validation examples."""
        self.model.eval()
        sums, weight = self._own(None), 0.0
        for indices in self.checks:
            if own := [self.valid[index] for index in indices][self.rank :: self.size]:
                loss = self.method.loss(self.model, self.method.batch(own, 0))
                sums = [total + value for total, value in zip(sums, self._own(loss), strict=True)]
                weight += loss.weight
                mx.eval(sums)
        (weight,) = self._over_workers(weight)
        loss, *logged = (_number(self._summed(value)) / weight for value in sums)
        if not math.isfinite(loss):
            self.window = [self.valid[index].name for indices in self.checks for index in indices][:8]
            raise self._not_finite(it, loss)
        self.totals.last_valid = loss
        own = {name: round(value, 6) for name, value in zip(self.method.logged, logged, strict=True)}
        self._record("valid", it, loss=round(loss, 6), **own)
        return loss

    def _save(self, it: int) -> None:
        """Publish a checkpoint, and note whether it is the best so far."""
        if self.recipe.select != "last":
            merit: tuple[float, ...] = (-self.totals.last_valid,)
            if self.score is not None:
                self.model.eval()
                value = self.score()
                self._record("select", it, score=round(value, 6))
                merit = (value, *merit)
            if self.best is None or merit > self.best[0]:
                self.best = (merit, it)
        if self.stream is None:
            return
        parts = {"optimizer": self.optimizer.state, "gradient": self.gradient}
        self.checkpoints.save(
            it,
            lambda folder: adapter.save(self.model, folder, self.description),
            arrays={
                f"{part}/{name}": cast(mx.array, value)
                for part, tree in parts.items()
                for name, value in tree_flatten(tree)
            },
            state={
                "metrics": {"position": self.stream.position(), **self.totals.state()},
                "weight": self.weight,
                "best": list(self.best) if self.best else None,
            },
        )
        self.checkpoints.thin(self.recipe.keep_checkpoints, spare=[self.best[1]] if self.best else [])

    def _waited(self, it: int) -> bool:
        """Whether the last ``patience`` checkpoints were no better than the best one."""
        recipe = self.recipe
        if recipe.patience is None or self.best is None:
            return False
        return it - self.best[1] >= recipe.patience * recipe.save_every

    def _resume(self) -> int:
        """Restore the newest whole checkpoint; returns the iterations it has done, 0 without one."""
        found = self.checkpoints.newest()
        if found is None:
            if self.stream is not None:
                self.stream.cut(0)
            return 0
        state, arrays, folder = found
        self.model.load_weights(str(folder / adapter.WEIGHTS), strict=False)
        parts: dict[str, dict[str, mx.array]] = {"optimizer": {}, "gradient": {}}
        for name, value in arrays.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = value
        self.optimizer.state = tree_unflatten(list(parts["optimizer"].items()))
        self.gradient, self.weight = parts["gradient"], state["weight"]
        self.best = (tuple(state["best"][0]), state["best"][1]) if state["best"] else None
        if self.stream is not None:
            self.stream.cut(state["metrics"]["position"])
        self.totals = Totals.restored({k: v for k, v in state["metrics"].items() if k != "position"})
        mx.eval(self.model.trainable_parameters(), self.optimizer.state, self.gradient)
        return int(state["iter"])

    def _finish(self, it: int, resumed: int) -> Trained:
        """Write the selected adapter and the record that the training has ended."""
        recipe, totals = self.recipe, self.totals
        selected = self.best[1] if self.best else it
        stopped = ""
        if it < recipe.iters:
            what = "lower validation loss" if self.score is None else "higher score"
            waited = f"{recipe.patience} checkpoint{'s' * (recipe.patience != 1)}"
            stopped = f"no {what} in {waited} after iteration {selected}"
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
            iters=it,
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
            trainable=_size(self.model.trainable_parameters()),
            parameters=_size(self.model.parameters()),
            warnings=warnings,
            planned_iters=recipe.iters,
            stopped=stopped,
        )
        if self.rank == 0:  # a process killed after this is not missed: the next one reads the record
            write_json(self.out / RESULT, {"identity": self.identity, "trained": asdict(trained)})
            self.checkpoints.finish()
        return trained

    def _record(self, kind: str, it: int, **figures: float | None) -> None:
        """Write a record to ``train.jsonl``, and report it."""
        record = {"kind": kind, "iter": it, "update": self.totals.updates, **figures}
        if self.stream is not None:
            self.stream.metrics(record)
        self.report(record)

    def _own(self, loss: Loss | None) -> list[mx.array]:
        """This worker's sums of a batch: its loss, and what the method logs; zeros without one."""
        if loss is None:
            return [mx.array(0.0) for _ in ("loss", *self.method.logged)]
        return [loss.total, *(loss.log[name] for name in self.method.logged)]

    def _summed(self, value: mx.array) -> mx.array:
        """The sum over all workers."""
        return value if self.group is None else mx.distributed.all_sum(value, group=self.group)

    def _over_workers(self, *counts: float) -> tuple[float, ...]:
        """The sum of each count over all workers; as float32, which is exact up to 16 million."""
        if self.group is None:
            return counts
        return tuple(cast("list[float]", self._summed(mx.array(list(counts))).tolist()))

    def _not_finite(self, it: int, loss: float) -> PunieError:
        if it == 0:  # nothing is trained yet
            return PunieError(
                "The base model's loss is not finite before training.",
                where=", ".join(self.window),
                found=f"loss {loss}",
                next_step="compute in float32 (runtime.cpu_float32=true), or use a base in bfloat16; check "
                "the model by a prompt: python -m mlx_lm generate",
            )
        last = self.checkpoints.newest()
        kept = f"the last good checkpoint is {last[2]}" if last else "there is no checkpoint before it"
        return PunieError(
            f"The {'loss' if not math.isfinite(loss) else 'gradient'} is not finite at iteration {it}.",
            where=", ".join(self.window),
            found=f"loss {loss}, gradient norm {self.totals.gradient_norm}; {kept}",
            next_step="lower lora.learning_rate or lora.scale, and check the examples named above",
        )


def join_workers() -> mx.distributed.Group:
    """The group of the processes that ``mlx.launch`` started with this one."""
    return mx.distributed.init(strict=True, backend="ring")


def _lengths(examples: Sequence[Row]) -> list[int]:
    return [len(example.tokens) for example in examples]


def _number(scalar: mx.array) -> float:
    return float(cast(float, scalar.item()))


def _size(parameters: Any) -> int:
    return sum(cast(mx.array, value).size for _, value in tree_flatten(parameters))
