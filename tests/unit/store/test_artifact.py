"""A manifest: read as it was written, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from punie.store.artifact import MANIFEST, read, write_manifest

VALUES: dict[str, Any] = {
    "stage": "train",
    "key": "k" * 64,
    "material": {"settings": {"lora.rank": 8, "name": "ü"}, "layers": (1, 2)},
    "created": "2026-01-02T03:04:05+00:00",
    "seconds": 1.5,
    "info": {"loss": 0.1, "by_layer": {2: "b", 10: "a"}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(b"weights")
    write_manifest(tmp_path, **VALUES)
    return tmp_path


def found(folder: Path) -> dict[str, Any]:
    artifact = read(folder)
    assert artifact is not None
    return dict(artifact.manifest)


def test_what_was_written_is_read(folder: Path) -> None:
    """A manifest comes back as JSON has it, with the size and the digest of every file but itself."""
    manifest = found(folder)
    assert {name: manifest[name] for name in VALUES} == json.loads(json.dumps(VALUES))
    assert {name: entry["size"] for name, entry in manifest["files"].items()} == {"weights": 7}


def test_every_single_bit_counts(folder: Path) -> None:
    """Whichever bit of a manifest flips, it is not taken for what was written."""
    path = folder / MANIFEST
    content = path.read_bytes()
    unseen = []
    for position in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            if read(folder) is not None:
                unseen.append((position, bit))
    assert unseen == []


@pytest.mark.parametrize(
    "change",
    [
        {"files": {}},
        {"info": {"loss": 0.2}},
        {"created": "2026-01-02T03:04:06+00:00"},
        {"schema": 3},
        {"extra": 1},
        {"seconds": float("nan")},
    ],
    ids=str,
)
def test_a_changed_manifest_is_not_read(folder: Path, change: dict[str, Any]) -> None:
    """A value that is another one than was written makes the whole manifest unreadable."""
    (folder / MANIFEST).write_text(json.dumps(found(folder) | change))
    assert read(folder) is None


@pytest.mark.parametrize("name", [None, "../weights", "/etc/passwd", "a/../../weights"])
def test_older_manifests_are_read(folder: Path, name: str | None) -> None:
    """One of the first schema, which had no digest of its own, counts, unless it names a file elsewhere."""
    manifest = found(folder)
    manifest["schema"] = 1
    del manifest["digest"]
    if name:
        manifest["files"][name] = manifest["files"]["weights"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert (read(folder) is None) == bool(name)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"stage": "\\ud800"}', "\0", '{"created": "yesterday"}'])
def test_what_is_no_manifest_is_none(folder: Path, text: str) -> None:
    """Whatever else a manifest's file holds, nothing is raised."""
    (folder / MANIFEST).write_text(text)
    assert read(folder) is None
