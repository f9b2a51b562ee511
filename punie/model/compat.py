"""What punie uses of mlx and mlx-lm beyond their documented interfaces; each has a test in test_compat.py."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tuner.trainer import grad_checkpoint
from mlx_lm.utils import maybe_set_recommended_wired_limit


@contextlib.contextmanager
def wired_memory() -> Generator[None]:
    """Let the block use the GPU memory that the device recommends; no effect where it recommends none."""
    before = maybe_set_recommended_wired_limit()
    try:
        yield
    finally:
        if before is not None:
            mx.set_wired_limit(before)


@contextlib.contextmanager
def gradient_checkpointing(model: nn.Module, enabled: bool) -> Generator[None]:
    """Recompute the layers' activations in the backward pass while the block runs.

    mlx-lm replaces ``__call__`` of the layers' class and never puts it back; this does.
    """
    kind = type(model.layers[0])
    call = kind.__call__
    if enabled:
        grad_checkpoint(model.layers[0])
    try:
        yield
    finally:
        kind.__call__ = call
