"""quantize: fuse the adapter into the base and quantize → a model folder that mlx-lm itself loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.stages.contract import Settings, Stage
from punie.stages.inputs import base_folder
from punie.store.artifacts import Artifact

if TYPE_CHECKING:
    from punie.progress import Reporter


def run(settings: Settings, inputs: Mapping[str, Artifact], out: Path, reporter: Reporter) -> dict[str, Any]:
    """Write the model folder."""
    from punie.backend.fuse import fuse

    adapter = inputs["train"]
    adapter.verify_once()
    return fuse(
        base_folder(settings),
        adapter.path,
        out,
        bits=settings.quantize.bits,
        group_size=settings.quantize.group_size,
    )


STAGE = Stage(
    name="quantize",
    version=1,
    reads=("model", "quantize", "runtime.blas"),
    needs=lambda _: ("base", "train"),
    run=run,
    computes=True,
)
