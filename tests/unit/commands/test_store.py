"""``punie store``: what is damaged, what goes, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import parser
from punie.commands import store as command
from punie.store.artifact import MANIFEST, Artifact, write_manifest
from punie.store.artifacts import Store
from punie.store.leases import lease
from punie.util.errors import StoreError
from punie.util.files import write_json


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def built(store: Store, stage: str, text: str = "a", **material: Any) -> Artifact:
    def write(out: Path) -> None:
        (out / "a").write_text(text)

    return store.get_or_build(stage, {"stage": stage, **material}, write)[0]


def punie_store(store: Store, *arguments: str) -> int:
    return command.run(parser("store").parse_args([*arguments, "--dir", str(store.root)]))


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
    assert "deleted 1 artifacts (0.0 MB) and 0 leftover folders\nkept 1 that a run is using by now" in out
    assert [artifact.path for artifact in store.artifacts()] == [kept.path]


def test_gc_spares_what_can_be_resumed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Interrupted trainings have the artifacts' age limit and stage."""
    interrupted(store, "train")
    punie_store(store, "gc", "--delete")
    punie_store(store, "gc", "--older-than", "0", "--stage", "quantize", "--delete")
    assert len(store.leftovers()) == 1
    punie_store(store, "gc", "--older-than", "0")
    punie_store(store, "gc", "--older-than", "0", "--delete")
    said = [line.split(" and ")[1] for line in capsys.readouterr().out.splitlines() if " and " in line]
    assert said == [
        "0 leftover folders",
        "0 leftover folders",
        "1 leftover folders; next: punie store gc ... --delete",
        "1 leftover folders",
    ]
    assert store.leftovers() == []


def chain(store: Store, seed: int) -> tuple[Artifact, Artifact]:
    """A training, and an evaluation made from it."""
    training = built(store, "train", seed=seed)
    return training, built(store, "evaluate", seed=seed, upstream={"train": training.key})


def record(folder: Path, *artifacts: Artifact) -> None:
    """A run's status.json that speaks of these."""
    folder.mkdir(parents=True)
    stages = [{"stage": each.stage, "key": each.key} for each in artifacts]
    write_json(folder / "status.json", {"stages": stages})


def test_gc_keeps_what_runs_speak_of(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """What a run or a sweep's plan names stays with all it was made from, until told otherwise."""
    (trained, evaluated), (planned, _), (alone, last) = (chain(store, seed) for seed in range(3))
    record(store.root.parent / "runs/x/1", evaluated)
    folder = store.root.parent / "sweeps/x/1"
    folder.mkdir(parents=True)
    write_json(folder / "plan.json", {"parts": {planned.key: {}}})
    everything = {trained.key, evaluated.key, planned.key}
    assert punie_store(store, "gc", "--older-than", "0", "--delete") == 0
    assert {artifact.key for artifact in store.artifacts()} == everything
    assert "3 of 6 artifacts are kept for the runs below" in capsys.readouterr().out
    assert not alone.path.exists()
    assert not last.path.exists()
    assert punie_store(store, "gc", "--older-than", "0", "--referenced", "--delete") == 0
    assert list(store.artifacts()) == []


@pytest.mark.parametrize("name", ["status.json", "results.json", "plan.json"])
@pytest.mark.parametrize("limit", [("--older-than", "0"), ("--max-size", "0")])
def test_gc_looks_again_before_it_deletes(
    store: Store, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, str], name: str
) -> None:
    """What a run or a sweep records while gc prints its table stays, with all it was made from: an artifact
    of before the table, and one that was built meanwhile."""
    (trained, _), (gone, last) = chain(store, 0), chain(store, 1)
    table, meanwhile = command._table, store.root.parent / "runs/x"

    def slow(artifacts: list[Artifact]) -> str:
        made = built(store, "quantize", upstream={"train": trained.key})
        meanwhile.mkdir(parents=True)
        write_json(meanwhile / name, {"uses": [made.key]})
        return table(artifacts)

    monkeypatch.setattr(command, "_table", slow)
    assert punie_store(store, "gc", *limit, "--delete") == 0
    assert {each.stage for each in store.artifacts()} == {"train", "quantize"}
    assert [each.path.exists() for each in (trained, gone, last)] == [True, False, False]


def test_gc_by_size(store: Store) -> None:
    """With a size, the oldest go first, and no more of them than it takes."""
    artifacts = [built(store, "train", seed=seed, text="a" * 1000) for seed in range(4)]
    for day, artifact in enumerate(artifacts, 1):
        unsealed = {name: value for name, value in artifact.manifest.items() if name != "digest"}
        write_manifest(artifact.path, **{**unsealed, "created": f"2026-01-0{day}T00:00:00+00:00"})
    assert punie_store(store, "gc", "--max-size", "0.0000021", "--delete") == 0
    assert {a.key for a in store.artifacts()} == {artifact.key for artifact in artifacts[2:]}


def test_gc_deletes_nothing_if_runs_cannot_be_read(store: Store, tmp_path: Path) -> None:
    """Where the folder of the runs is not there, what they use is not known, and everything stays."""
    artifact = built(store, "train")
    with pytest.raises(StoreError, match="nothing is deleted"):
        punie_store(store, "gc", "--older-than", "0", "--delete", "--runs", str(tmp_path / "nowhere"))
    assert artifact.path.exists()
