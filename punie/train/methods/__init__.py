"""Training methods: the table of them, and what each entry provides.

Adding a method is one file and one line in ``METHODS``. Its name is then a value of ``lora.method`` and part
of the key of ``train``; a change of what a method computes raises the version of that stage.

Shape letters: B = sequences in a batch, T = tokens of the longest of them, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn

    from punie.train.batches import Batch, Row
    from punie.train.forward import Forward

METHODS = {"sft": "punie.train.methods.sft:Sft"}
"""By name, the ``module:attribute`` of a ``Build``. Text only, so that the config's schema imports no mlx."""

Example = TypeVar("Example", bound="Row")
"""A training example: a ``Row``, or a subclass with more fields, such as a rejected answer."""
Inputs = TypeVar("Inputs", bound="Batch")
"""What a loss is computed from: a ``Batch``, or a subclass with more arrays, such as a reference's logits."""


class Loss(NamedTuple):
    """The loss of one batch, as sums over it."""

    total: mx.array
    """Float32, shape (), in nats; differentiable."""
    weight: float
    """What the total is divided by for a mean, such as the number of tokens with loss or of pairs."""
    log: Mapping[str, mx.array]
    """By name in ``Method.logged``: a sum of shape (), reported divided by the weight."""


class Method(Protocol[Example, Inputs]):
    """How examples become batches, and batches a loss. The loop does the rest, the same for every method."""

    logged: tuple[str, ...] = ()
    """Names of the figures that the method reports beside the loss."""

    def load(self, path: Path, split: str) -> list[Example]:
        """The examples of a tokenized file; ``split`` is the name of its JSONL file, for messages."""
        ...

    def batch(self, examples: Sequence[Example], it: int) -> Inputs:
        """The arrays of a micro-batch: one (B, T) of token ids, and the method's own.

        Args:
            examples: Those of this worker.
            it: Number of the micro-batch, from 1; 0 in validation. What is sampled here is keyed by it, so
                that a resumed training samples the same.
        """
        ...

    def loss(self, model: nn.Module, batch: Inputs) -> Loss:
        """The loss of a batch. ``model.training`` tells training from validation."""
        ...


Build = Callable[["Forward", Mapping[str, Any]], Method[Any, Any]]
"""Makes a method of the way in which the model is computed, and of the fields of ``lora``."""


def build(name: str, forward: Forward, lora: Mapping[str, Any]) -> Method[Any, Any]:
    """The method of a name in ``METHODS``."""
    entry: Build = resolve_name(METHODS[name])
    return entry(forward, lora)
