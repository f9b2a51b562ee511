"""What punie uses of MLX and mlx-lm beyond their public interfaces: each test fails when it changes."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm import server

from punie.model import compat


def test_the_server_loads_with_the_function_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's model provider calls the function by name, with the model's path."""
    asked: list[str] = []

    def load(path: str, **_: Any) -> Any:
        asked.append(path)
        return Namespace(), Namespace(), {}

    monkeypatch.setattr(server, "load", server.load)  # restored after the test
    compat.set_server_loader(load)
    options = {"trust_remote_code": False, "chat_template": None, "use_default_chat_template": False}
    sources = {"model": "folder", "adapter_path": None, "draft_model": None, "pipeline": False}
    provider = server.ModelProvider(Namespace(**options, **sources))
    with contextlib.suppress(AttributeError):  # of a model that is none
        provider.load("default_model", None, None)
    assert asked == ["folder"]


def test_intermediate_results_are_counted_and_views_are_not() -> None:
    """A product and a bias of (1, T, width) count once each; a transpose counts nothing."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = mx.zeros((8, 8)), mx.zeros(8)

        def __call__(self, x: mx.array, mask: str, cache: None) -> mx.array:
            return x @ self.weight.T + self.bias

    assert compat.intermediate_bytes([Layer()], tokens=4, width=8, dtype=mx.float32) == 2 * 4 * 8 * 4


def test_gradient_checkpointing_ends_with_its_block(fresh: Any) -> None:
    """mlx-lm replaces the call of the layers' class, which has its own again after the block; switched off,
    nothing is replaced."""
    model, _ = fresh()
    kind = type(model.layers[0])
    call = kind.__call__
    with compat.gradient_checkpointing(model, False):
        assert kind.__call__ is call
    with compat.gradient_checkpointing(model, True):
        assert kind.__call__ is not call
    assert kind.__call__ is call
