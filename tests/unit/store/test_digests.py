"""Content digests of inputs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest

from punie.store import digests
from punie.store.keys import file_digest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(digests.platformdirs, "user_cache_dir", lambda _: str(folder))
    monkeypatch.setattr(digests, "_REMEMBER_FROM", 10)
    return folder


def test_large_files_are_read_once_and_again_when_they_change(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remembered digest is used until the file changes, in size or in time."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"a" * 100)
    os.utime(path, (time.time() - 100, time.time() - 100))
    first = digests.content_digests([path])
    reads: list[Path] = []
    monkeypatch.setattr(digests, "file_digest", lambda p: reads.append(p) or file_digest(p))
    assert digests.content_digests([path]) == first
    assert reads == []
    path.write_bytes(b"b" * 100)
    os.utime(path, (time.time() - 50, time.time() - 50))
    assert digests.content_digests([path]) != first
    assert len(reads) == 1


def test_a_file_changed_just_now_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    """A file could change again within the resolution of its timestamp."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"a" * 100)
    digests.content_digests([path])
    assert not (cache / "digests.json").exists()


@pytest.mark.parametrize("content", ["[1, 2", "[1]", '{"a": 1}', None])
def test_a_cache_that_cannot_be_used_costs_time_only(
    tmp_path: Path, cache: Path, content: str | None
) -> None:
    """A damaged cache file, or a file where the cache's folder should be, does not change the digests."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"a" * 100)
    os.utime(path, (time.time() - 100, time.time() - 100))
    if content is None:
        cache.write_text("a file where the folder should be")
    else:
        cache.mkdir()
        (cache / "digests.json").write_text(content)
    assert digests.content_digests([path]) == {"model.safetensors": file_digest(path)}


@pytest.mark.parametrize("trusted", [True, False])
def test_only_the_hub_cache_names_its_blobs(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    """The name of a blob is its digest in the cache of this machine; a similar folder elsewhere is read."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = tmp_path / ("hub" if trusted else "copied")
    blob = hub / "models--o--n" / "blobs" / ("e" * 64)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    link = hub / "models--o--n" / "snapshots" / "main" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    expected = "e" * 64 if trusted else file_digest(blob)
    assert digests.content_digests([link]) == {"model.safetensors": expected}
