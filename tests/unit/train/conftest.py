"""The trainer of the embedded model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.train.trainer import Trainer


@pytest.fixture
def trainer(fresh: Callable[..., Any], splits: dict[str, list[Any]], tmp_path: Path) -> Trainer:
    """Trains fresh copies of the tiny model in a temporary folder."""
    return Trainer(fresh, splits, tmp_path)
