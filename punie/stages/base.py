"""base: resolves the model and records what it consists of; runs none of its code."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from punie.model import folders, resolve
from punie.model.resolve import NotCached
from punie.model.shards import not_finite, parameters
from punie.stages.contract import LOADING, Contents, Inputs, Stage
from punie.stages.inputs import (
    NotConverted,
    Settings,
    adapter_folder,
    base_folder,
    plain_folder,
    prepare,
    prepared_bytes,
)
from punie.stages.slices import Base
from punie.store.artifact import read
from punie.util.errors import PunieError
from punie.util.files import write_json
from punie.util.progress import Reporter


def contents(settings: Base) -> Contents:
    """Digest of every file of the model that can influence a result."""
    return {"model": folders.contents(base_folder(settings))}


def notes(settings: Settings) -> Iterator[str]:
    """What no key tells of the model: files that do not count, and what its adapter is."""
    with contextlib.suppress(PunieError):  # another check reports it
        if (adapter := adapter_folder(settings)) is not None:
            from punie.model import adapters

            about = adapters.read(adapter)
            trained = f", trained on {about.base}" if about.base else ""
            yield f"the model has the {about.kind} adapter {adapter} fused into it{trained}"
        if strays := folders.stray_weights(base_folder(settings)):
            names = ", ".join(path.name for path in strays)
            yield f"does not belong to the model, and is not read: {names}"


def ready(settings: Settings, reporter: Reporter) -> Path:
    """The model's folder; one that has to be prepared is prepared first."""
    try:
        return base_folder(settings)
    except NotConverted:
        acquire(settings, reporter)
        return base_folder(settings)


def acquire(settings: Settings, reporter: Reporter) -> None:
    """Download the model into the hub's cache; make of it in the store what a run needs."""
    model = settings.model
    try:
        plain_folder(settings)
    except NotCached as missing:
        if not isinstance(missing, NotConverted):
            reporter.line(f"  downloading {model.repo} ({model.size_gb or '?'} GB) ...")
            resolve.download(model.repo or "", model.revision)
    prepare(settings, reporter)


def run(settings: Base, inputs: Inputs, out: Path, reporter: Reporter) -> Contents:
    """Write base.json: the model's files with their digests, and its size.

    Raises:
        PunieError: mlx-lm cannot load it, or its weights hold numbers that are not finite.
    """
    from punie.model import load

    folder = base_folder(settings)
    count = parameters(folder)  # first: it checks that every file is as long as its header states
    unread = load.unread(folder, load.load_lazily(folder)[0])
    for part, left_out in unread.items():
        reporter.line(
            f"  note: {part} is not loaded by mlx-lm ({left_out:,} parameters); the result lacks it",
            style="yellow",
        )
    _require_finite(folder, unread)
    stored = sum(path.stat().st_size for path in folders.weight_files(folder))
    size = {"parameters": count, "bytes": stored}
    write_json(out / "base.json", {"files": folders.contents(folder), **size})
    artifact = read(folder)
    return size | ({"artifact": artifact.key} if artifact else {})


def _require_finite(folder: Path, unread: Collection[str]) -> None:
    """Refuse weights that are infinite or NaN, where they are in a part that is loaded."""
    bad = {
        name: count
        for name, count in not_finite(folder).items()
        if not any(name.startswith(f"{part}.") for part in unread)
    }
    if bad:
        raise PunieError(
            "The base model's weights are not finite.",
            where=folder,
            found="; ".join(f"{name}: {count:,} numbers" for name, count in [*bad.items()][:3])
            + (f"; and {len(bad) - 3} more tensors" if len(bad) > 3 else ""),
            expected="no infinity and no NaN",
            next_step="fetch the model again; if it was converted to float16, convert it to bfloat16",
        )


def disk(settings: Base, parameters: int) -> int:
    """Bytes of the download, or of what ``prepare`` writes; none where the model is on this machine."""
    try:
        base_folder(settings)
    except NotConverted:
        return prepared_bytes(settings)
    except NotCached:
        return int((settings.model.size_gb or 0) * 1e9)
    return 0


STAGE = Stage(
    name="base",
    version=1,
    reads=Base,
    needs=lambda _: (),
    sources=lambda _: (*LOADING, "model/resolve.py", "stages/base.py", "stages/inputs.py"),
    contents=contents,
    acquire=acquire,
    run=run,
    disk=disk,
)
