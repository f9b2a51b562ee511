"""Every surface, by name."""

from __future__ import annotations

from tests.malformed import jsonl_files, models, outputs, overrides, run_files
from tests.malformed.surface import Surface

SURFACES: dict[str, Surface] = {
    surface.name: surface
    for module in (jsonl_files, outputs, overrides, models, run_files)
    for surface in module.SURFACES
}
