"""Keys and digests: one value, one key; one content, one digest."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest

from punie.store import keys
from punie.store.keys import (
    artifact_key,
    canonical_json,
    content_digests,
    differences,
    digest,
    file_digest,
)


def test_order_does_not_matter_and_kinds_do() -> None:
    """The order of fields leaves a key alone; the tag and the type of a value change it."""
    assert digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    assert digest("a", {"x": 1}) != digest("b", {"x": 1})
    assert digest("a", {"x": 1}) != digest("a", {"x": 1.0})
    assert digest("a", {"x": None}) != digest("a", {})


def test_a_key_is_known_forever() -> None:
    """This exact material has this exact key on every machine and in every release."""
    assert artifact_key({"stage": "train", "settings": {"lora.rank": 8, "lora.scale": 20.0}}) == (
        "d9b728f6b8b6ce0038c387c4ccb7c51bfd9153ccab6c6f2ac7b4ec647956c767"
    )


def test_what_is_not_json_is_refused() -> None:
    """NaN has no canonical form, and objects are not values."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(math.nan)
    with pytest.raises(TypeError):
        canonical_json({"x": object()})


def test_differences_name_the_fields() -> None:
    """Two materials differ in dotted fields, absent ones counting as None."""
    old = {"settings": {"rank": 8, "gone": 1}, "version": 1}
    new = {"settings": {"rank": 16, "added": 2}, "version": 1}
    assert differences(old, new) == [
        ("settings/added", None, 2),
        ("settings/gone", 1, None),
        ("settings/rank", 8, 16),
    ]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(keys.platformdirs, "user_cache_dir", lambda _: str(folder))
    monkeypatch.setattr(keys, "_REMEMBER_FROM", 10)
    return folder


def test_large_files_are_read_once_and_again_when_they_change(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remembered digest is used until the file changes, in size or in time."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"a" * 100)
    os.utime(path, (time.time() - 100, time.time() - 100))
    first = content_digests([path])
    reads: list[Path] = []
    monkeypatch.setattr(keys, "file_digest", lambda p: reads.append(p) or file_digest(p))
    assert content_digests([path]) == first
    assert reads == []
    path.write_bytes(b"b" * 100)
    os.utime(path, (time.time() - 50, time.time() - 50))
    assert content_digests([path]) != first
    assert len(reads) == 1


def test_a_file_changed_just_now_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    """A file could change again within the resolution of its timestamp."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"a" * 100)
    content_digests([path])
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
    assert content_digests([path]) == {"model.safetensors": file_digest(path)}


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
    assert content_digests([link]) == {"model.safetensors": expected}
