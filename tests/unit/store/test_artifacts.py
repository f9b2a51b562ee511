"""The store: an artifact is complete and verified, or it is not there."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from punie.store import artifact as one
from punie.store.artifact import MANIFEST, verified
from punie.store.artifacts import Store
from punie.store.keys import artifact_key
from punie.store.leases import drop, lease, slot
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


def _slow_build(root: Path, log: Path, seconds: float, *, resumable: bool = False) -> None:
    def build(out: Path) -> None:
        with log.open("a") as stream:
            stream.write("built\n")
        time.sleep(seconds)
        write(out)

    Store(root).get_or_build("train", MATERIAL, build, resumable=resumable)


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
    rename = Path.rename

    def killed_at_last(path: Path, target: Path) -> Path:
        if (path / MANIFEST).exists():
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", killed_at_last)
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


def _delete(locks: Path) -> None:
    shutil.rmtree(locks)


def _delete_files(locks: Path) -> None:
    for path in locks.iterdir():
        path.unlink()


def _move(locks: Path) -> None:
    locks.rename(locks.with_name("elsewhere"))


@pytest.mark.parametrize("lose", [_delete, _delete_files, _move])
@pytest.mark.parametrize("resumable", [True, False])
def test_deleted_locks_let_no_two_into_a_folder(
    tmp_path: Path, lose: Callable[[Path], None], resumable: bool
) -> None:
    """Where the lock files go while a build runs, another process waits for its folder, and reuses what it
    publishes; gc and other builds leave it alone. A build that is not resumable has a folder of its own, and
    the artifact is that of the first to end."""
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    worker = multiprocessing.get_context("fork").Process(
        target=_slow_build, args=(store.root, log, 0.5), kwargs={"resumable": resumable}
    )
    worker.start()
    deadline = time.monotonic() + 10
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    lose(store.locks)
    assert store.sweep() == []
    store.get_or_build("train", {**MATERIAL, "settings": {}}, write)
    artifact, reused = store.get_or_build("train", MATERIAL, write, resumable=resumable)
    worker.join()
    assert (worker.exitcode, reused) == (0, resumable)
    assert artifact.damage(digests=True) is None
    assert store.leftovers() == []


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Path]:
    """A folder on another filesystem than the store."""
    here, known = tmp_path.stat().st_dev, (Path(tempfile.gettempdir()), Path("/dev/shm"))
    elsewhere = [folder for folder in known if folder.is_dir() and folder.stat().st_dev != here]
    if not elsewhere:
        pytest.skip("no second filesystem here")
    with tempfile.TemporaryDirectory(dir=elsewhere[0]) as folder:
        yield Path(folder)


@pytest.mark.parametrize("resumable", [True, False])
def test_a_stage_may_have_a_folder_on_another_filesystem(store: Store, other: Path, resumable: bool) -> None:
    """Where the stage's folder is a link to another disk, artifacts are built and published there, set aside
    when they are damaged, and removed."""
    store.root.mkdir()
    (store.root / "train").symlink_to(other)
    artifact, _ = store.get_or_build("train", MATERIAL, write, resumable=resumable)
    assert (other / artifact.key / MANIFEST).is_file()
    (artifact.path / "adapters.safetensors").unlink()
    again, reused = store.get_or_build("train", MATERIAL, write, resumable=resumable)
    assert (reused, again.damage(digests=True)) == (False, None)
    assert [path.parent for path in store.leftovers()] == [store.root / "train" / ".damaged"]
    assert len(store.sweep()) == 1
    store.remove(again)
    assert list(store.artifacts()) == store.leftovers() == []
    assert not [path for path in other.rglob("*") if path.name[0] != "."]


def test_an_interrupted_build_goes_on_where_its_stage_is_now(
    store: Store, resumable: Path, other: Path
) -> None:
    """Someone gives the stage another disk, because the first was full: what was done so far moves there."""
    (store.root / "train").rename(store.root / "old")
    (store.root / "train").symlink_to(other)
    found = []

    def resume(out: Path) -> None:
        found.append((out / "half").read_text())

    store.get_or_build("train", MATERIAL, resume, resumable=True)
    assert found == ["half"]
    assert not resumable.exists()
    assert store.leftovers() == []


@pytest.mark.parametrize("resumable", [True, False])
def test_a_stage_may_move_while_it_is_built(store: Store, other: Path, resumable: bool) -> None:
    """The night's training is published where its stage is in the morning, by copy and rename."""

    def build(out: Path) -> Mapping[str, Any]:
        (store.root / "train").rmdir()
        (store.root / "train").symlink_to(other)
        return write(out)

    artifact, _ = store.get_or_build("train", MATERIAL, build, resumable=resumable)
    assert artifact.damage(digests=True) is None
    assert (other / artifact.key / MANIFEST).is_file()
    assert store.leftovers() == []


@pytest.mark.parametrize("kind", ["file", "dangling link", "loop"])
def test_what_would_stop_a_publication_stops_the_build(store: Store, kind: str) -> None:
    """A stage that can have no folder is met before the hours of its build, with the next step."""
    store.root.mkdir()
    place = store.root / "train"
    if kind == "file":
        place.write_text("")
    else:
        place.symlink_to(place if kind == "loop" else store.root / "gone")
    with pytest.raises(StoreError, match="has no folder in the store") as caught:
        store.get_or_build("train", MATERIAL, lambda _: pytest.fail("built"))
    assert caught.value.next_step


_ANNA, _BERT, _GROUP = 64001, 64002, 64000
"""Made-up users of one group."""


def _as(user: int, work: Callable[[], object]) -> None:
    """Do something as a user of the group whose files the group may write."""

    def become() -> None:
        os.umask(0o002)
        os.setgroups([])
        os.setgid(_GROUP)
        os.setuid(user)
        verified.clear()
        work()

    worker = multiprocessing.get_context("fork").Process(target=become)
    worker.start()
    worker.join()
    assert worker.exitcode == 0


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be two users")
def test_two_users_of_a_group_share_a_store() -> None:
    """Each goes on with the other's interrupted build, sets the other's damaged artifact aside, and holds and
    drops what the other has built."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        store = Store(Path(place) / "store")
        store.root.mkdir()
        os.chown(store.root, -1, _GROUP)
        store.root.chmod(0o2775)

        def interrupted() -> None:
            with pytest.raises(KeyboardInterrupt):
                store.get_or_build("train", MATERIAL, stop, resumable=True)

        def resumed() -> None:
            def go_on(out: Path) -> None:
                assert (out / "half").read_text() == "half"
                write(out)

            artifact, _ = store.get_or_build("train", MATERIAL, go_on, resumable=True)
            (artifact.path / "adapters.safetensors").write_bytes(b"weighty")

        def repaired() -> None:
            artifact, reused = store.get_or_build("train", MATERIAL, write, resumable=True)
            assert not reused
            with lease(store, "train", artifact.key), slot(store, 1):
                assert drop(store, [artifact]) == []

        def dropped() -> None:
            (artifact,) = store.artifacts()
            with slot(store, 1):
                assert drop(store, [artifact]) == [artifact]
            assert len(store.sweep()) == 1

        for user, work in [(_ANNA, interrupted), (_BERT, resumed), (_ANNA, repaired), (_BERT, dropped)]:
            _as(user, work)
        assert list(store.artifacts()) == store.leftovers() == []


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
