"""``punie store``: what is damaged, what goes, and what is said about it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from punie.commands import store as command
from punie.store.artifacts import MANIFEST, Artifact, Store
from punie.store.leases import lease


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def built(store: Store, stage: str) -> Artifact:
    def write(out: Path) -> None:
        (out / "a").write_text("a")

    return store.get_or_build(stage, {"stage": stage}, write)[0]


def punie_store(store: Store, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([*arguments, "--dir", str(store.root)]))


def interrupted(store: Store, stage: str) -> None:
    def stop(out: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get_or_build(stage, {"stage": stage}, stop, resumable=True)


def test_verify_counts_a_broken_manifest(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """An artifact without a readable manifest is damaged, and set aside."""
    artifact = built(store, "train")
    (artifact.path / MANIFEST).write_text("{")
    assert punie_store(store, "verify") == 1
    assert "1 artifacts, 1 damaged" in capsys.readouterr().out
    assert not artifact.path.exists()
    assert punie_store(store, "verify") == 0


def test_gc_keeps_what_is_in_use(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A leased artifact stays, and the figures are those of what went."""
    kept, _ = built(store, "quantize"), built(store, "train")
    with lease(store, "quantize", kept.key):
        assert punie_store(store, "gc", "--older-than", "0", "--delete") == 0
    out = capsys.readouterr().out
    assert "deleted 1 artifacts (0.0 MB) and 0 leftover folders\nkept 1 that a run is using" in out
    assert [artifact.path for artifact in store.artifacts()] == [kept.path]


def test_gc_spares_what_can_be_resumed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Interrupted trainings have the artifacts' age limit and stage."""
    interrupted(store, "train")
    punie_store(store, "gc", "--delete")
    punie_store(store, "gc", "--older-than", "0", "--stage", "quantize", "--delete")
    assert len(store.leftovers()) == 1
    punie_store(store, "gc", "--older-than", "0")
    punie_store(store, "gc", "--older-than", "0", "--delete")
    said = [line.split(" and ")[1] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "0 leftover folders",
        "0 leftover folders",
        "1 leftover folders; next: punie store gc ... --delete",
        "1 leftover folders",
    ]
    assert store.leftovers() == []
