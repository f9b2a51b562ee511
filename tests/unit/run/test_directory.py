"""The run directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from punie.run.directory import RunDirectory
from punie.store.artifacts import Store
from tests.flushed import Flushed


def test_a_finished_run_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run directory takes from the store is flushed, so that no crash leaves a finished run empty."""

    def build(out: Path) -> None:
        (out / "samples.jsonl").write_text("{}\n")

    artifact, _ = Store(tmp_path / "store").get_or_build("evaluate", {"suite": "s"}, build)
    flushed = Flushed(monkeypatch)
    RunDirectory(tmp_path).collect({"evaluate": artifact})
    assert (tmp_path / "samples.jsonl").read_text() == "{}\n"
    assert flushed.whole(tmp_path / "samples.jsonl")
