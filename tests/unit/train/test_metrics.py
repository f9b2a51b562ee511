"""The metrics stream of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from punie.train.metrics import Metrics
from tests.flushed import Flushed


def test_a_checkpoint_counts_on_what_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of the stream that a checkpoint records was flushed, so that no crash makes it shorter."""
    flushed = Flushed(monkeypatch)
    metrics = Metrics(tmp_path / "train.jsonl", lambda _: None)
    metrics.write("valid", 0, loss=1.0)
    assert not flushed.whole(tmp_path / "train.jsonl")
    assert metrics.state()["position"] == (tmp_path / "train.jsonl").stat().st_size
    assert flushed.whole(tmp_path / "train.jsonl")
    metrics.close()
