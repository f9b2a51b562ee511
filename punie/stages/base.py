"""base: resolves the model and records what it consists of; runs none of its code."""

from __future__ import annotations

from pathlib import Path

from punie.model import resolve
from punie.model.resolve import NotCached
from punie.model.shards import parameters
from punie.stages.contract import Contents, Inputs, Stage
from punie.stages.inputs import base_folder
from punie.stages.slices import Base
from punie.util.files import write_json
from punie.util.progress import Reporter


def contents(settings: Base) -> Contents:
    """Digest of every file of the model that can influence a result."""
    return {"model": resolve.contents(base_folder(settings.model))}


def acquire(settings: Base, reporter: Reporter) -> None:
    """Download the model into the hub's cache."""
    reporter.line(f"  downloading {settings.model.repo} ({settings.model.size_gb or '?'} GB) ...")
    resolve.download(settings.model.repo or "", settings.model.revision)


def run(settings: Base, inputs: Inputs, out: Path, reporter: Reporter) -> Contents:
    """Write base.json: the model's files with their digests, and its size."""
    folder = base_folder(settings.model)
    stored = sum(path.stat().st_size for path in folder.glob("model*.safetensors"))
    size = {"parameters": parameters(folder), "bytes": stored}
    write_json(out / "base.json", {"files": resolve.contents(folder), **size})
    return size


def disk(settings: Base, parameters: int) -> int:
    """Bytes of the download; none where the model is on this machine."""
    try:
        base_folder(settings.model)
    except NotCached:
        return int((settings.model.size_gb or 0) * 1e9)
    return 0


STAGE = Stage(
    name="base",
    version=1,
    reads=Base,
    needs=lambda _: (),
    contents=contents,
    acquire=acquire,
    run=run,
    disk=disk,
)
