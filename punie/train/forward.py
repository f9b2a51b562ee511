"""Of a model's forward pass what a loss needs: the layers from the first trained one on, the head where there
is loss.

Below the first trained layer nothing changes. What those layers give for an example is a function of the base
and the example, computed alone and unpadded: it has the same bits whether it was kept or not. The head, a
large share of the work where the vocabulary is large, is computed at the positions with loss, some at a time.
The opening that all examples share, a system prompt and the tools' schemas, is computed once for a batch: the
layers keep its keys and values, as they do when text is generated.

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
from mlx_lm.models.cache import KVCache, RotatingKVCache, create_attention_mask, make_prompt_cache

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
SHARED = 64
"""Fewest tokens of an opening that is computed once: a shorter one is not worth a pass of its own."""


@dataclass(frozen=True)
class Opening:
    """The tokens with which every example begins, and what the frozen layers give for them."""

    ids: mx.array
    """(1, O)"""
    state: mx.array | None = None
    """(1, O, D); None where no layer is frozen."""
    keys: tuple[_Keys, ...] = ()
    """The frozen layers' keys and values, and an empty place for each layer above."""


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
    opening: Opening | None = None
    """What is computed once for a batch."""
    note: str | None = None
    """What of this does not work with the model, and why."""

    @property
    def left(self) -> int:
        """Tokens of the opening."""
        return self.opening.ids.size if self.opening is not None else 0

    def batch(self, examples: Sequence[Row]) -> Batch:
        """The examples as one batch, with the states that the model is computed from."""
        return pad(examples, self.states.of(examples) if self.states is not None else None)

    def share(self, model: Any, examples: Sequence[Row]) -> None:
        """Compute the opening of these examples once for a batch, where it is long and the model works so."""
        length = common(examples)
        if not self.only_loss or length < SHARED:
            return
        try:
            with _evaluating(model):
                trial = Parts(model, self.arity, Parts(model, self.arity).opened(self.cut, _TRIAL[:6]))
                _compare(trial, self.cut, model(mx.array([_TRIAL]))[0])
                self.opening = Parts(model, self.arity).opened(self.cut, examples[0].tokens[:length])
        except Exception as error:  # whatever an architecture leads to
            left = _why(f"computing the {length} tokens that all examples begin with once", error)
            self.note = "; ".join(filter(None, (self.note, left)))

    def losses(self, model: nn.Module, batch: Batch) -> mx.array:
        """Cross-entropy in nats of the tokens with loss, float32, (N,), in the order of ``batch.where``."""
        ids, parts, where = batch.ids[:, :-1], Parts(model, self.arity, self.opening), batch.where
        if not self.only_loss:
            logits = parts.model(ids)
            return _cross_entropy(logits.reshape(-1, logits.shape[-1])[where], batch.targets)
        if self.opening is not None:
            where = where - (where // ids.shape[1] + 1) * self.left
            ids = ids[:, self.left :]
        state = parts.trained(ids, self.cut, batch.states)
        state = state.reshape(-1, *state.shape[2:])[where]  # (N, D)
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
    found = Forward(trained_head=outside)
    with _evaluating(model):
        whole = model(mx.array([_TRIAL]))[0]  # (T, vocabulary)
        for depth in sorted({0, cut}):
            try:
                found.arity = Parts(model).returned()
                _compare(Parts(model, found.arity), depth, whole)
                found.cut = depth
            except Exception as error:  # whatever an architecture leads to
                found.only_loss = depth > 0
                what = f"{depth} frozen layers" if depth else "the head where there is no loss"
                found.note = _why(f"leaving out {what}", error)
                break
    return found


def common(examples: Sequence[Row]) -> int:
    """Tokens with which all examples begin, before the first that predicts one with loss."""
    first, last = min(each.tokens for each in examples), max(each.tokens for each in examples)
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min([same, *(start - 1 for each in examples for start, _ in each.spans)])


def _compare(parts: Parts, cut: int, whole: mx.array) -> None:
    """Compute the trial in parts.

    Raises:
        ValueError: Its logits are not the model's, ``whole``, (T, vocabulary).
    """
    ids, states = mx.array([_TRIAL]), None
    if cut:
        states = parts.below(cut, _TRIAL)[None]
    if parts.opening is not None:
        left = parts.opening.ids.size
        ids, whole = ids[:, left:], whole[left:]
    logits = parts.head(parts.trained(ids, cut, states)[0])
    limit = _CLOSE.get(whole.dtype, 0.0) * mx.abs(whole).max()
    if logits.shape != whole.shape or not (mx.abs(logits - whole).max() <= limit).item():
        raise ValueError("it changes the logits")


def _why(what: str, error: Exception) -> str:
    return f"{what} does not work with this model ({excerpt(str(error), 200)}); all is computed"


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


class Parts:
    """A model of mlx-lm in parts: the layers below the trained ones, those from there on, and the head.

    With an opening, the sequences of ``trained`` are those after it.
    """

    def __init__(self, model: Any, arity: int = 0, opening: Opening | None = None) -> None:
        self.model, self.arity, self.opening = model, arity, opening
        self.layers = list(model.layers)

    def opened(self, cut: int, tokens: Sequence[int]) -> Opening:
        """The opening that these tokens are.

        Raises:
            ValueError: A layer keeps something else than keys and values.
        """
        kept = make_prompt_cache(self.model)
        if len(kept) != len(self.layers) or not all(
            type(each) in (KVCache, RotatingKVCache) for each in kept
        ):
            raise ValueError("a layer keeps something else than keys and values")
        ids, state, keys = mx.array([tokens]), None, tuple(_Keys() for _ in self.layers)
        if cut:
            state = self._state(self._seen(cut - 1, self._above(cut), ids, keys))
            mx.eval(state, [each.kept for each in keys[:cut]])
        return Opening(ids, state, keys)

    def returned(self) -> int:
        """The ``Forward.arity`` of the model."""
        found = self._seen(len(self.layers) - 1, {}, mx.array([_TRIAL[:1]]))
        return len(found) if isinstance(found, tuple) else 0

    def below(self, cut: int, tokens: Sequence[int]) -> mx.array:
        """The state of a sequence after ``cut`` layers, (T, D); with an opening, of what comes after it."""
        ids, keys = mx.array([tokens]), None
        if self.opening is not None:
            left = self.opening.ids.size
            ids, keys = ids[:, left:], _after(left, self.opening.keys)
        return self._state(self._seen(cut - 1, self._above(cut), ids, keys))[0]

    def trained(self, ids: mx.array, cut: int, states: mx.array | None) -> mx.array:
        """The state after the last layer, (B, T, D), from the states after ``cut`` layers."""
        last, keys = len(self.layers) - 1, None

        def calls(states: mx.array | None) -> Calls:
            known: Calls = {cut - 1: lambda *_, **__: self._returns(states)} if cut else {}
            return dict.fromkeys(range(cut - 1), self._pass_on) | known

        if self.opening is not None:
            keys = tuple(_Keys() for _ in self.layers)
            self._seen(last, calls(self.opening.state), self.opening.ids, keys)
            keys = _after(self.opening.ids.size, keys)
        return self._state(self._seen(last, calls(states), ids, keys))

    def head(self, states: mx.array) -> mx.array:
        """From states after the last layer, (N, D), logits (N, vocabulary)."""
        last = len(self.layers) - 1
        calls: Calls = dict.fromkeys(range(last), self._pass_on)
        with self._standing_in(calls | {last: lambda *_, **__: self._returns(states[None])}):
            return self.model(mx.zeros((1, len(states)), mx.int32))[0]

    def _above(self, cut: int) -> Calls:
        return dict.fromkeys(range(cut, len(self.layers)), self._pass_on)

    def _seen(self, number: int, calls: Calls, ids: mx.array, keys: Sequence[_Keys] | None = None) -> Any:
        """What a layer returns when the model is called, with stand-ins for others."""
        layer, seen = self.layers[number], []

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(layer(*args, **kwargs))
            return seen[0]

        with self._standing_in(calls | {number: call}):
            self.model(ids, cache=None if keys is None else list(keys))
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


class _Keys:
    """Keys and values of an opening in one layer, behind the interface of mlx-lm's caches."""

    def __init__(self, offset: int = 0, kept: Any = None) -> None:
        self.offset, self.kept = offset, kept

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        if self.kept is None:
            self.kept = keys, values
            return self.kept
        first, second = (
            mx.concatenate([mx.broadcast_to(old, (len(new), *old.shape[1:])), new], axis=2)
            for old, new in zip(self.kept, (keys, values), strict=True)
        )
        return first, second

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        return create_attention_mask(length, self.offset, return_array, window_size)


def _after(left: int, keys: Sequence[_Keys]) -> tuple[_Keys, ...]:
    """For sequences that come after an opening of ``left`` tokens."""
    return tuple(_Keys(left, each.kept) for each in keys)


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
