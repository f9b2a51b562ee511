"""Models that a run makes before it begins, as artifacts of the store: each once, by what it is made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from punie.store.artifacts import Artifact, Store
from punie.store.keys import artifact_key, content_digests

Material = dict[str, Any]
"""What a key is made of."""


def find(stage: str, material: Material, store: Store) -> Path | None:
    """The folder of the model; None if the store has none, or a damaged one."""
    artifact = store.find(stage, artifact_key(material))
    return artifact.path if artifact is not None and _is_whole(artifact) else None


def build(stage: str, material: Material, store: Store, make: Callable[[Path], dict[str, Any]]) -> Path:
    """Make the model, unless the store has it; ``make`` writes into a folder and returns what is recorded.

    Raises:
        PunieError: Of ``make``; or the store cannot be written.
    """
    if (found := store.find(stage, artifact_key(material))) is not None and not _is_whole(found):
        store.set_aside(found.path)
    artifact, _ = store.get_or_build(stage, material, make)
    return artifact.path


def _is_whole(artifact: Artifact) -> bool:
    """Whether its files are as published, by digests that are remembered for large files."""
    return content_digests(map(artifact.path.joinpath, artifact.digests)) == artifact.digests
