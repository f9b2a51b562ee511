"""Every surface, by name."""

from __future__ import annotations

from tests.malformed import gguf_files, jsonl_files, models, outputs, overrides, run_files, wire
from tests.malformed.surface import Surface

SURFACES: dict[str, Surface] = {
    surface.name: surface
    for module in (jsonl_files, outputs, overrides, models, gguf_files, run_files, wire)
    for surface in module.SURFACES
}
