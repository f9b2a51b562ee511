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
    """Within the resolution of its timestamp a file could change again unseen."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"a" * 100)
    digests.content_digests([path])
    assert not (cache / "digests.json").exists()


def test_a_damaged_memory_costs_time_only(tmp_path: Path, cache: Path) -> None:
    """Garbage in the cache file is ignored."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"a" * 100)
    cache.mkdir()
    (cache / "digests.json").write_text("[1, 2")
    assert digests.content_digests([path]) == {"model.safetensors": file_digest(path)}


def blob_of(hub: Path) -> Path:
    """A link to a blob, named by a sha256 that is not its own."""
    blob = hub / "models--o--n" / "blobs" / ("e" * 64)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    link = hub / "models--o--n" / "snapshots" / "main" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    return link


def test_the_hub_cache_names_its_blobs(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link into the cache of this machine, to a file named by a sha256, is not read."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    link = blob_of(tmp_path / "hub")
    monkeypatch.setattr(digests, "file_digest", lambda _: pytest.fail("read a named blob"))
    assert digests.content_digests([link]) == {"model.safetensors": "e" * 64}


def test_a_folder_that_looks_like_the_hub_cache_is_read(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that somebody else packed cannot claim a digest by the name of a file."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    link = blob_of(tmp_path / "copied")
    assert digests.content_digests([link]) == {"model.safetensors": file_digest(link)}


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, cache: Path) -> None:
    """Where no folder can be made for the memory, the digests come out all the same."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"a" * 100)
    os.utime(path, (time.time() - 100, time.time() - 100))
    cache.write_text("a file where the folder should be")
    assert digests.content_digests([path]) == {"model.safetensors": file_digest(path)}
