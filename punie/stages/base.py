"""base: resolves the model and records what it consists of; runs none of its code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.model import estimate, resolve
from punie.stages.contract import Settings, Stage
from punie.stages.inputs import base_folder
from punie.store.artifacts import Artifact
from punie.util.files import write_json

if TYPE_CHECKING:
    from punie.util.progress import Reporter


def contents(settings: Settings) -> dict[str, Any]:
    """Digest of every file of the model that can influence a result."""
    return {"model": resolve.contents(base_folder(settings))}


def acquire(settings: Settings, reporter: Reporter) -> None:
    """Download the model into the hub's cache."""
    reporter.line(f"  downloading {settings.model.repo} ({settings.model.size_gb or '?'} GB) ...")
    resolve.download(settings.model.repo, settings.model.revision)


def run(settings: Settings, inputs: Mapping[str, Artifact], out: Path, reporter: Reporter) -> dict[str, Any]:
    """Write base.json: the model's files with their digests, and its size."""
    folder = base_folder(settings)
    weights = estimate.weights(folder)
    record = {"files": resolve.contents(folder), "parameters": weights.parameters, "bytes": weights.bytes}
    write_json(out / "base.json", record)
    return {"parameters": weights.parameters, "bytes": weights.bytes}


STAGE = Stage(
    name="base",
    version=1,
    reads=("model",),
    needs=lambda _: (),
    contents=contents,
    acquire=acquire,
    run=run,
)
