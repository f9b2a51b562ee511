"""Muon: momentum whose update is made orthogonal, for the matrices of a model.

After K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). At this size it
reaches a given loss in about a third fewer steps than AdamW alone. ``mlx.optimizers.Muon`` flattens a stack
of experts into one matrix; this one makes each expert's update orthogonal by itself.

Import only after ``punie.model.blas.activate()``: this module imports mlx.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.optimizers as optim

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, from the reference."""


class Muon(optim.Optimizer):
    """The optimizer.

    Args:
        schedule: Learning rate by step.
        momentum: Share of the old momentum that is kept.
        weight_decay: Decoupled; per unit of learning rate.
    """

    def __init__(self, schedule: Any, momentum: float = 0.95, weight_decay: float = 0.1) -> None:
        super().__init__()
        self._maybe_schedule("learning_rate", schedule)
        self.momentum = momentum
        self.weight_decay = weight_decay

    def init_single(self, parameter: mx.array, state: dict[str, mx.array]) -> None:
        """Start a parameter's momentum at zero."""
        state["v"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        """One step of a matrix (rows, columns), or of a stack of them (experts, rows, columns)."""
        state["v"] = self.momentum * state["v"] + (1 - self.momentum) * gradient
        nesterov = self.momentum * state["v"] + (1 - self.momentum) * gradient
        rate = self.learning_rate.astype(gradient.dtype)
        shape = max(1.0, parameter.shape[-2] / parameter.shape[-1]) ** 0.5
        return parameter * (1 - rate * self.weight_decay) - rate * shape * orthogonal(nesterov)


def orthogonal(x: mx.array, steps: int = 5) -> mx.array:
    """About the nearest matrix with orthonormal rows or columns, by Newton-Schulz iteration."""
    a, b, c = _NEWTON_SCHULZ
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x
    x = x / (mx.sqrt((x * x).sum(axis=(-1, -2), keepdims=True)) + 1e-7)
    for _ in range(steps):
        gram = x @ x.swapaxes(-1, -2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.swapaxes(-1, -2) if tall else x
