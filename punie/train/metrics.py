"""The metrics stream of a training: ``train.jsonl``, which the progress bar reads too."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from punie.util.files import flush


@dataclass
class Totals:
    """Sums over a whole training; part of every checkpoint."""

    tokens: int = 0
    """Real tokens, prompts included."""
    supervised: int = 0
    positions: int = 0
    """Computed positions, padding included."""
    seconds: float = 0.0
    """Of training proper, validation excluded."""
    updates: int = 0
    train_loss: float = math.nan
    """Mean over the last report window; nats per supervised token."""
    gradient_norm: float = math.nan
    """Of the last update."""
    first_valid: float = math.nan
    last_valid: float = math.nan
    window_loss: float = 0.0
    window_tokens: int = 0
    window_supervised: int = 0
    window_seconds: float = 0.0


class Metrics:
    """Appends records and keeps the sums.

    Args:
        path: ``train.jsonl``; None for workers that do not write.
        report: Called with every record, and with ``{"iter": …}`` after each minibatch.
    """

    def __init__(self, path: Path | None, report: Callable[[dict[str, Any]], None]) -> None:
        self.path, self.report = path, report
        self.totals = Totals()
        self._stream = None if path is None else path.open("a")

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the sums, and how long the file is, which is on the disk then."""
        position = self._stream.tell() if self._stream is not None else 0
        if self.path is not None:
            flush(self.path)
        # NaN is no JSON; it only stands for "not yet".
        return {"position": position, **{k: None if v != v else v for k, v in asdict(self.totals).items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint: later records are cut off."""
        position = state["position"]
        known: dict[str, Any] = {k: math.nan if v is None else v for k, v in state.items() if k != "position"}
        self.totals = Totals(**known)
        if self._stream is not None:
            self._stream.truncate(position)
            self._stream.seek(position)

    def trained(
        self, it: int, loss: float, supervised: int, tokens: int, positions: int, seconds: float
    ) -> None:
        """Count a minibatch; ``loss`` is summed over its supervised tokens."""
        totals = self.totals
        totals.tokens += tokens
        totals.supervised += supervised
        totals.positions += positions
        totals.seconds += seconds
        totals.window_loss += loss
        totals.window_tokens += tokens
        totals.window_supervised += supervised
        totals.window_seconds += seconds
        self.report({"iter": it})

    def flush(self, it: int, **values: Any) -> None:
        """Write a ``train`` record over the window since the last one."""
        totals = self.totals
        totals.train_loss = totals.window_loss / totals.window_supervised
        self.write(
            "train",
            it,
            loss=round(totals.train_loss, 6),
            tokens=totals.tokens,
            supervised_tokens=totals.supervised,
            tokens_per_second=round(totals.window_tokens / totals.window_seconds, 1),
            **values,
        )
        totals.window_loss = totals.window_seconds = 0.0
        totals.window_tokens = totals.window_supervised = 0

    def write(self, kind: str, it: int, **values: Any) -> None:
        """Append a record of a kind: ``train``, ``valid`` or ``select``."""
        record = {"kind": kind, "iter": it, "update": self.totals.updates, **values}
        if self._stream is not None:
            self._stream.write(json.dumps(record, allow_nan=False) + "\n")
            self._stream.flush()
        self.report(record)
