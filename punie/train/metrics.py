"""Sums over a training, from which its records and its outcome are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Trained:
    """The outcome of a training."""

    iters: int
    """Done, by this process and those before it."""
    updates: int
    selected_iter: int
    """The iteration whose weights are the result."""
    resumed_from: int
    """The iteration of the checkpoint that this process continued from; 0 for none."""
    train_loss: float
    """Mean over the last report window; for sft in nats per token with loss."""
    valid_loss: float
    """Of the selected weights."""
    first_valid_loss: float
    """Before the first update."""
    supervised_tokens: int
    """Tokens with loss."""
    tokens: int
    """Prompts included, padding not."""
    padding_share: float
    """Share of the computed positions that were padding."""
    tokens_per_second: float
    """While training, without validation."""
    trainable: int
    """Trainable parameters."""
    parameters: int
    """All parameters of the model in memory."""
    warnings: list[str]
    """Shown to the user."""
    planned_iters: int = 0
    stopped: str = ""
    """Why it ended before the planned iterations."""


@dataclass
class Totals:
    """Sums over the whole training and over the current report window; part of every checkpoint."""

    tokens: int = 0
    """Real tokens, prompts included."""
    supervised: int = 0
    """Tokens with loss."""
    positions: int = 0
    """Computed positions, padding included."""
    seconds: float = 0.0
    """Spent on training steps, without validation."""
    updates: int = 0
    train_loss: float = math.nan
    """Mean over the last report window."""
    gradient_norm: float = math.nan
    """Of the last update."""
    first_valid: float = math.nan
    last_valid: float = math.nan
    window_loss: float = 0.0
    window_weight: float = 0
    window_log: dict[str, float] = field(default_factory=dict)
    window_tokens: int = 0
    window_seconds: float = 0.0

    def add(
        self, *, loss: float, weight: float, log: Mapping[str, float], tokens: int, supervised: int,
        positions: int, seconds: float,
    ) -> None:  # fmt: skip
        """Count a micro-batch; ``loss`` and ``log`` are sums, as in ``methods.Loss``."""
        self.tokens += tokens
        self.supervised += supervised
        self.positions += positions
        self.seconds += seconds
        self.window_loss += loss
        self.window_weight += weight
        self.window_log = {name: self.window_log.get(name, 0.0) + value for name, value in log.items()}
        self.window_tokens += tokens
        self.window_seconds += seconds

    def close_window(self, **values: float | None) -> dict[str, Any]:
        """The figures of a ``train`` record: the window's, ``values``, the method's; a new window begins."""
        self.train_loss = self.window_loss / self.window_weight
        figures = {
            "loss": round(self.train_loss, 6),
            "tokens": self.tokens,
            "supervised_tokens": self.supervised,
            "tokens_per_second": round(self.window_tokens / self.window_seconds, 1),
            **values,
            **{name: round(value / self.window_weight, 6) for name, value in self.window_log.items()},
        }
        self.window_loss = self.window_seconds = 0.0
        self.window_tokens = self.window_weight = 0
        self.window_log = {}
        return figures

    def state(self) -> dict[str, Any]:
        """JSON values for a checkpoint. NaN, which JSON has not, becomes null: not known yet."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Totals:
        """The sums of a checkpoint; older ones call the window's weight ``window_supervised``."""
        known: dict[str, Any] = {name: math.nan if value is None else value for name, value in state.items()}
        known["window_weight"] = known.pop("window_supervised", known.get("window_weight"))
        return cls(**known)
