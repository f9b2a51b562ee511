"""An artifact in use is not dropped, and a device has no more users than slots."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from punie.store.artifacts import Artifact, Store
from punie.store.leases import drop, lease, slot
from punie.util.errors import StoreError


def built(store: Store) -> Artifact:
    def build(out: Path) -> None:
        (out / "model").write_text("weights")

    return store.get_or_build("quantize", {"bits": 5}, build)[0]


def test_a_leased_artifact_stays(tmp_path: Path) -> None:
    """While anyone holds a lease the artifact stays; afterwards it goes, and can be built again."""
    store = Store(tmp_path)
    artifact = built(store)
    with lease(store, "quantize", artifact.key), lease(store, "quantize", artifact.key):
        assert not drop(store, [artifact])
        assert store.find("quantize", artifact.key)
    assert drop(store, [artifact])
    assert store.find("quantize", artifact.key) is None
    assert store.leftovers() == []
    assert built(store).key == artifact.key


def test_a_lease_can_come_before_the_artifact(tmp_path: Path) -> None:
    """A key is leased before anything is built for it, so that no gap is left."""
    store = Store(tmp_path)
    key = built(Store(tmp_path / "other")).key
    with lease(store, "quantize", key):
        assert not drop(store, [built(store)])


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_store_that_cannot_be_written_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Where no lease can be written nothing can be dropped either, and whoever only reads goes on."""
    store = Store(tmp_path)
    artifact = built(store)
    monkeypatch.setattr(Path, "mkdir", _refusing(code))
    with lease(store, "quantize", artifact.key):
        assert store.find("quantize", artifact.key)
    with pytest.raises(StoreError, match=r"store\.dir"):
        drop(store, [artifact])


def test_a_lease_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space for a lease is an error for people, and the block does not run."""
    monkeypatch.setattr(Path, "mkdir", _refusing(errno.ENOSPC))
    with pytest.raises(StoreError, match="free some space"), lease(Store(tmp_path), "quantize", "k" * 64):
        pytest.fail("ran without a lease")


def _refusing(code: int) -> Callable[..., None]:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    return refuse


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 2), (None, 4)])
def test_no_more_compute_than_there_are_places(tmp_path: Path, count: int | None, most: int) -> None:
    """Of four that want to compute, at most ``count`` do at any moment; without a limit all do."""
    store, guard, ready = Store(tmp_path), threading.Lock(), threading.Barrier(4)
    now, seen = 0, []

    def work() -> None:
        nonlocal now
        ready.wait()
        with slot(store, count):
            with guard:
                now += 1
                seen.append(now)
            time.sleep(0.3)
            with guard:
                now -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) == most


def test_a_place_is_free_again_after_an_error(tmp_path: Path) -> None:
    """Whoever fails in its place gives it back, and the next one does not wait."""
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="a bug"), slot(store, 1):
        raise ValueError("a bug")
    with slot(store, 1) as waited:
        assert waited < 0.2
