"""The embedded model and its trainer; importing this loads the BLAS, which has to come before mlx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.model.conftest import fresh, splits, tokenizer

if TYPE_CHECKING:
    from tests.unit.train.trainer import Trainer

__all__ = ["fresh", "splits", "tokenizer"]  # fixtures


@pytest.fixture
def trainer(fresh: Callable[..., Any], splits: dict[str, list[Any]], tmp_path: Path) -> Trainer:
    from tests.unit.train.trainer import Trainer

    return Trainer(fresh, splits, tmp_path)
