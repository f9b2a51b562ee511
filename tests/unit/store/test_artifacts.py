"""The store: an artifact is complete and verified, or it is not there."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from punie.store import artifact as one
from punie.store.artifact import MANIFEST, verified
from punie.store.artifacts import Store
from punie.store.keys import artifact_key
from punie.util.errors import StoreError

MATERIAL: dict[str, Any] = {"stage": "train", "settings": {"lora.rank": 8}, "upstream": {"base": "b" * 64}}


def write(out: Path) -> Mapping[str, Any]:
    (out / "adapters.safetensors").write_bytes(b"weights")
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / "1").write_bytes(b"one")
    return {"loss": 0.5}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_build_once_then_reuse(store: Store) -> None:
    """The second request for a key finds the first one's artifact and builds nothing."""
    built, reused = store.get_or_build("train", MATERIAL, write)
    assert not reused
    again, reused = store.get_or_build("train", MATERIAL, lambda _: pytest.fail("built twice"))
    assert reused
    assert again.manifest == built.manifest
    assert built.info == {"loss": 0.5}
    assert built.path == store.root / "train" / artifact_key(MATERIAL)
    assert sorted(built.manifest["files"]) == ["adapters.safetensors", "checkpoints/1"]
    assert built.file("checkpoints/1").read_bytes() == b"one"


@pytest.mark.parametrize("damage", ["truncated", "missing", "no manifest", "manifest of another key"])
def test_visible_damage_is_a_miss_and_is_rebuilt(store: Store, damage: str) -> None:
    """A file that is missing or has another size, or a manifest that is not its own, is not an artifact."""
    artifact, _ = store.get_or_build("train", MATERIAL, write)
    victim = artifact.path / "adapters.safetensors"
    if damage == "truncated":
        victim.write_bytes(b"wei")
    elif damage == "missing":
        victim.unlink()
    elif damage == "no manifest":
        (artifact.path / MANIFEST).unlink()
    else:
        manifest = {**artifact.manifest, "material": {**MATERIAL, "settings": {}}}
        (artifact.path / MANIFEST).write_text(json.dumps(manifest))
    assert store.find("train", artifact.key) is None
    rebuilt, reused = store.get_or_build("train", MATERIAL, write)
    assert not reused
    assert rebuilt.damage(digests=True) is None


def test_a_flipped_bit_is_found_on_first_use(store: Store) -> None:
    """A file that changed at the same size is refused when another process uses it, and then rebuilt."""
    artifact, _ = store.get_or_build("train", MATERIAL, write)
    (artifact.path / "adapters.safetensors").write_bytes(b"weighty")
    verified.clear()  # what a new process starts with
    found = store.find("train", artifact.key)
    assert found is not None
    with pytest.raises(StoreError, match=r"damaged.*adapters\.safetensors"):
        found.file("adapters.safetensors")
    rebuilt, reused = store.get_or_build("train", MATERIAL, write)
    assert not reused
    assert rebuilt.file("adapters.safetensors").read_bytes() == b"weights"
    (aside,) = (store.root / ".damaged").iterdir()
    assert (aside / "adapters.safetensors").read_bytes() == b"weighty"


def test_a_miss_says_why(store: Store) -> None:
    """The reason for a miss is what differs from the nearest artifact of the stage."""
    assert str(store.explain("train", MATERIAL)) == "nothing built yet"
    store.get_or_build("train", MATERIAL, write)
    store.get_or_build("train", {**MATERIAL, "settings": {"lora.rank": 4, "lora.scale": 1.0}}, write)
    changed = {**MATERIAL, "settings": {"lora.rank": 16}}
    assert str(store.explain("train", changed)) == "lora.rank 8 → 16"
    moved = {**MATERIAL, "upstream": {"base": "c" * 64}}
    assert str(store.explain("train", moved)) == "base changed"


def test_removal_is_never_half_seen(store: Store) -> None:
    """A removed artifact is gone with its folder; what a killed removal left is swept."""
    artifact, _ = store.get_or_build("train", MATERIAL, write)
    store.remove(artifact)
    assert list(store.artifacts()) == []
    assert store.leftovers() == []
    store.get_or_build("train", MATERIAL, write)
    gone = store._set_aside("train", artifact.key, "removed")
    assert store.sweep() == [gone]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(None, None), ("ENOSPC", "free some space"), ("EROFS", "store.dir"), ("EACCES", "store.dir")],
)
def test_a_failed_build_leaves_nothing(store: Store, code: str | None, remedy: str | None) -> None:
    """A failed build leaves nothing behind; a full or read-only disk is told with the next step."""

    def fail(out: Path) -> None:
        (out / "half").write_text("half")
        if code is None:
            raise KeyboardInterrupt
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), str(out / "weights"))

    with pytest.raises(StoreError if code else KeyboardInterrupt, match=remedy):
        store.get_or_build("train", MATERIAL, fail)
    assert store.find("train", artifact_key(MATERIAL)) is None
    assert store.leftovers() == []


def _slow_build(root: Path, log: Path, seconds: float) -> None:
    def build(out: Path) -> None:
        with log.open("a") as stream:
            stream.write("built\n")
        time.sleep(seconds)
        write(out)

    Store(root).get_or_build("train", MATERIAL, build)


def test_many_processes_build_a_key_once(tmp_path: Path) -> None:
    """Four processes that want the same key at once: one builds, three wait and reuse."""
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_slow_build, args=(tmp_path / "store", tmp_path / "log", 0.3))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_killed_build_is_swept(tmp_path: Path) -> None:
    """A running build is not swept; once it is killed its lock is free, and the next build sweeps it."""
    store = Store(tmp_path / "store")
    worker = multiprocessing.get_context("fork").Process(
        target=_slow_build, args=(store.root, tmp_path / "log", 60)
    )
    worker.start()
    deadline = time.monotonic() + 10
    while not (tmp_path / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        assert store.sweep() == []
    finally:
        worker.kill()
        worker.join()
    assert len(store.leftovers()) == 1
    artifact, reused = store.get_or_build("train", MATERIAL, write)
    assert not reused
    assert artifact.damage(digests=True) is None
    assert store.leftovers() == []


def stop(out: Path) -> None:
    """A build that is interrupted."""
    (out / "half").write_text("half")
    raise KeyboardInterrupt


@pytest.fixture
def resumable(store: Store) -> Path:
    """The folder of an interrupted training, last written to 100 seconds ago."""
    with pytest.raises(KeyboardInterrupt):
        store.get_or_build("train", MATERIAL, stop, resumable=True)
    (folder,) = store.leftovers()
    for path in (folder / "half", folder):
        os.utime(path, (time.time() - 100, time.time() - 100))
    return folder


def test_a_young_training_is_not_swept(store: Store, resumable: Path) -> None:
    """A resumable folder stays until nothing in it was written to for so long; so does another stage's."""
    assert store.sweep(older_than_seconds=200) == []
    assert store.sweep(stage="quantize") == []
    os.utime(resumable / "half", (time.time() - 10, time.time() - 10))
    assert store.sweep(older_than_seconds=50) == []
    assert store.sweep(older_than_seconds=5) == [resumable]
    assert not resumable.exists()


def test_an_artifact_may_vanish_while_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that another process removes between listing and sorting is left out."""
    artifact, _ = store.get_or_build("train", MATERIAL, write)
    children = Store._children
    ghost = store.root / "train" / ("0" * 64)
    monkeypatch.setattr(
        Store, "_children", lambda self, p: [*children(self, p), *([ghost] if p.name == "train" else [])]
    )
    assert [found.path for found in store.artifacts()] == [artifact.path]


def test_a_build_killed_at_its_last_step_is_resumed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumable build that ended between its manifest and its rename is published whole: what the first
    attempt left, its manifest and a file it was writing, is no part of the artifact."""
    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.get_or_build("train", MATERIAL, stop_late, resumable=True)
    (folder,) = store.leftovers()
    (folder / ".trained.json.abcdefgh.tmp").write_text("half")
    artifact, _ = store.get_or_build("train", MATERIAL, stop_late, resumable=True)
    assert sorted(artifact.manifest["files"]) == ["weights"]
    assert artifact.damage(digests=True) is None
    assert store.find("train", artifact.key)


def stop_late(out: Path) -> None:
    """A build that finds its work done."""
    (out / "weights").write_text("weights")


def test_a_build_sweeps_what_others_left(store: Store, resumable: Path) -> None:
    """A killed build of another key, and a half-deleted artifact, go with the next build; a training that
    can be resumed, a build that is running, and one of another host stay."""
    gone, _ = store.get_or_build("train", {**MATERIAL, "settings": {"lora.rank": 1}}, write)
    half = store._set_aside("train", gone.key, "removed")
    here = f"0123abcd.{socket.gethostname()}"
    dead = store.root / ".building" / f"quantize-{'a' * 64}-{here}"
    alive = store.root / ".building" / f"quantize-{'b' * 64}-{here}"
    elsewhere = store.root / ".building" / f"quantize-{'c' * 64}-0123abcd.another-host"
    foreign = store.root / ".building" / "notes"
    for folder in (dead, alive, elsewhere, foreign):
        folder.mkdir()
    with store._lock("quantize", "b" * 64):
        store.get_or_build("train", {**MATERIAL, "settings": {"lora.rank": 2}}, write)
    assert half is not None
    stayed = [path.exists() for path in (half, dead, alive, elsewhere, foreign, resumable)]
    assert stayed == [False, False, True, True, True, True]


def test_a_file_that_cannot_be_read_is_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk error is reported as damage; an artifact that was checked in this process is not read again."""
    artifact, _ = store.get_or_build("train", MATERIAL, write)

    def unreadable(path: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as broken:
        broken.setattr(one, "file_digest", unreadable)
        assert artifact.damage(digests=True) == "adapters.safetensors: Input/output error"
    verified.clear()  # what a new process starts with
    assert artifact.damage(digests=True) is None
    monkeypatch.setattr(one, "file_digest", lambda _: pytest.fail("read twice"))
    assert artifact.file("adapters.safetensors").is_file()
