"""Sweeps that are planned and not run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from punie.results.sweep import SweepPlan
from punie.sweep import preview

Planner = Callable[..., SweepPlan]


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planner:
    """Plans ``-m OVERRIDES`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PUNIE_RUN_ID", "20261123T000000-abcdef")
    return lambda *overrides: preview.plan(overrides)
