"""Of a model's forward pass what a loss needs: the layers from the first trained one on, the head where there
is loss.

Below the first trained layer nothing changes. What those layers give for an example is a function of the base
and the example, computed alone and unpadded: it has the same bits whether it was kept or not. The head, a
large share of the work where the vocabulary is large, is computed at the positions with loss, some at a time.

This knows no architecture. While a model of mlx-lm is called, functions stand in for some of its layers: they
give a state that is known, or pass on what they get. MLX computes only what is read, so what they leave out
costs nothing. A trial finds models that do not work so (a layer that reads an earlier one's keys, say);
of those the whole is computed.

Shape letters: B = sequences in a batch, T = tokens of the longest of them, N = tokens with loss, D = width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from punie.model.shapes import LOGITS
from punie.train.batches import Batch, Row, pad
from punie.train.states import States
from punie.util.jsonl import excerpt

Calls = dict[int, Callable[..., Any]]
"""What stands in for layers, by their number."""
_TRIAL = [*range(1, 13)]
"""Token ids on which the shortened pass is compared with the whole one."""
_CLOSE = {mx.float32: 1e-3, mx.float16: 2e-2, mx.bfloat16: 1e-1}
"""Largest difference of logits in a trial, as a share of the largest logit, by their type."""


@dataclass
class Forward:
    """How a training computes its model."""

    cut: int = 0
    """Layers below the first trained one, whose output ``states`` gives; 0 computes all."""
    states: States | None = None
    arity: int = 0
    """Values that a layer returns, of which the first is the state; 0 if it returns the state alone."""
    only_loss: bool = True
    """The head is computed at positions with loss only."""
    trained_head: bool = False
    """Something after the layers is trained."""
    note: str | None = None
    """What of this does not work with the model, and why."""

    def batch(self, examples: Sequence[Row]) -> Batch:
        """The examples as one batch, with the states that the model is computed from."""
        return pad(examples, self.states.of(examples) if self.states is not None else None)

    def losses(self, model: nn.Module, batch: Batch) -> mx.array:
        """Cross-entropy in nats of the tokens with loss, float32, (N,), in the order of ``batch.where``."""
        ids, parts = batch.ids[:, :-1], Parts(model, self.arity)
        if not self.only_loss:
            logits = parts.model(ids)
            return _cross_entropy(logits.reshape(-1, logits.shape[-1])[batch.where], batch.targets)
        state = parts.trained(ids, self.cut, batch.states)
        state = state.reshape(-1, *state.shape[2:])[batch.where]  # (N, D)
        step = max(1, LOGITS // parts.head(state[:1]).shape[-1])
        if self.trained_head or len(state) <= step:
            return _cross_entropy(parts.head(state), batch.targets)
        pieces = []
        for start in range(0, len(state), step):
            targets = batch.targets[start : start + step]
            piece = mx.checkpoint(lambda state, targets=targets: _cross_entropy(parts.head(state), targets))
            pieces.append(piece(state[start : start + step]))
        return mx.concatenate(pieces)


def fit(model: Any, *, frozen: bool) -> Forward:
    """What works with a model: tried on a few tokens, compared with the whole model.

    ``frozen`` False computes every layer each time.
    """
    trained = [len(tree_flatten(layer.trainable_parameters())) for layer in model.layers]
    # What is trained before the layers, an embedding, is not told from what is trained after them.
    outside = len(tree_flatten(model.trainable_parameters())) > sum(trained)
    cut = next((n for n, count in enumerate(trained) if count), 0) if frozen and not outside else 0
    ids, training = mx.array([_TRIAL]), model.training
    model.eval()
    whole = model(ids)[0]  # (T, vocabulary)
    limit = _CLOSE.get(whole.dtype, 0.0) * mx.abs(whole).max()
    found = Forward(trained_head=outside)
    for depth in sorted({0, cut}):
        try:
            found.arity = Parts(model).returned()
            parts = Parts(model, found.arity)
            states = parts.below(depth, _TRIAL)[None] if depth else None
            logits = parts.head(parts.trained(ids, depth, states)[0])
            if logits.shape != whole.shape or not (mx.abs(logits - whole).max() <= limit).item():
                raise ValueError("it changes the logits")
            found.cut = depth
        except Exception as error:  # whatever an architecture leads to
            found.only_loss = depth > 0
            what = f"{depth} frozen layers" if depth else "the head where there is no loss"
            why = excerpt(str(error), 200)
            found.note = f"leaving out {what} does not work with this model ({why}); all is computed"
            break
    model.train(training)
    return found


class Parts:
    """A model of mlx-lm in parts: the layers below the trained ones, those from there on, and the head."""

    def __init__(self, model: Any, arity: int = 0) -> None:
        self.model, self.arity = model, arity
        self.layers = list(model.layers)

    def returned(self) -> int:
        """The ``Forward.arity`` of the model."""
        found = self._seen(len(self.layers) - 1, {}, mx.array([_TRIAL[:1]]))
        return len(found) if isinstance(found, tuple) else 0

    def below(self, cut: int, tokens: Sequence[int]) -> mx.array:
        """The state of a sequence after ``cut`` layers, (T, D)."""
        after: Calls = dict.fromkeys(range(cut, len(self.layers)), self._pass_on)
        return self._state(self._seen(cut - 1, after, mx.array([tokens])))[0]

    def trained(self, ids: mx.array, cut: int, states: mx.array | None) -> mx.array:
        """The state after the last layer, (B, T, D), from the states after ``cut`` layers."""
        calls: Calls = dict.fromkeys(range(cut - 1), self._pass_on)
        if cut:
            calls[cut - 1] = lambda *_, **__: self._returns(states)
        return self._state(self._seen(len(self.layers) - 1, calls, ids))

    def head(self, states: mx.array) -> mx.array:
        """From states after the last layer, (N, D), logits (N, vocabulary)."""
        last = len(self.layers) - 1
        calls: Calls = dict.fromkeys(range(last), self._pass_on)
        with self._standing_in(calls | {last: lambda *_, **__: self._returns(states[None])}):
            return self.model(mx.zeros((1, len(states)), mx.int32))[0]

    def _seen(self, number: int, calls: Calls, ids: mx.array) -> Any:
        """What a layer returns when the model is called, with stand-ins for others."""
        layer, seen = self.layers[number], []

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(layer(*args, **kwargs))
            return seen[0]

        with self._standing_in(calls | {number: call}):
            self.model(ids)
        return seen[0]

    def _state(self, returned: Any) -> mx.array:
        return returned[0] if self.arity else returned

    def _returns(self, state: mx.array | None) -> Any:
        return (state, *[None] * (self.arity - 1)) if self.arity else state

    def _pass_on(self, state: mx.array, *_: Any, **__: Any) -> Any:
        return self._returns(state)

    @contextlib.contextmanager
    def _standing_in(self, calls: Calls) -> Generator[None]:
        """Let functions be called in place of some layers while the block runs."""
        held = _holder(self.model, self.layers[0])
        first = next(place for place, each in enumerate(held) if each is self.layers[0])
        for number, call in calls.items():
            held[first + number] = _StandIn(self.layers[number], call)
        try:
            yield
        finally:
            for number in calls:
                held[first + number] = self.layers[number]


def _holder(module: nn.Module, layer: nn.Module) -> list[Any]:
    """The list in which a model has a layer; ``model.layers`` can be a copy of it.

    Raises:
        LookupError: There is none.
    """
    inner = []
    for value in module.values():
        if isinstance(value, list) and any(each is layer for each in value):
            return value
        inner += [value] if isinstance(value, nn.Module) else []
    for each in inner:
        with contextlib.suppress(LookupError):
            return _holder(each, layer)
    raise LookupError("the model has no list of layers")


class _StandIn:
    """Is called in place of a layer, and has its attributes: some models ask a layer for its kind."""

    def __init__(self, layer: nn.Module, call: Callable[..., Any]) -> None:
        self.layer, self.call = layer, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)


def _cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    return nn.losses.cross_entropy(logits.astype(mx.float32), targets)
