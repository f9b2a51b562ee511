"""The card of an embedded model: for people, and with a record that a rebuild can be held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from punie.embedded.specs import Spec
from punie.model import blas
from punie.run.capture import capture
from punie.store.keys import file_digest
from punie.util.files import write_text

NAME = "README.md"
_FENCE = "```"


def record(folder: Path, spec: Spec, seed: int) -> dict[str, Any]:
    """What a model was built from, on what, and the digests of the files that came out."""
    surroundings = capture(argv=[], overrides=[], config_digest="")
    files = sorted(path for path in folder.iterdir() if path.name != NAME)
    return {
        "seed": seed,
        "recipe": asdict(spec),
        "libraries": {name: surroundings.packages[name] for name in ("mlx", "mlx-lm", "numpy", "tokenizers")},
        "machine": {
            "chip": surroundings.machine and surroundings.machine.chip,
            "blas": blas.activate().source,
        },
        "sha256": {path.name: file_digest(path) for path in files},
    }


def write(folder: Path, built: Mapping[str, Any]) -> None:
    """Put the card into a model folder."""
    spec = built["recipe"]
    text = f"""\
# {spec["name"]}: a {spec["model_type"]} model that comes with punie

Built by `punie tiny build {spec["name"]}`, trained from nothing on generated conversations about the
26 tools of `punie/formats/tools.py`. It knows the tools by name and answers in prose or with plain
calls; the wrapper that puts code into `execute_code` is what fine-tuning teaches it. Figures are in
`docs/tiny-models.md`. It knows nothing else, and is good for nothing but studying fine-tuning and its
evaluation.

A rebuild with the same recipe, libraries and machine gives the files with these digests, bit for bit.

{_FENCE}json
{json.dumps(built, indent=1)}
{_FENCE}
"""
    write_text(folder / NAME, text)


def read(folder: Path) -> dict[str, Any] | None:
    """The record on a folder's card, or None where there is none."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
        return json.loads(text.split(f"{_FENCE}json\n")[1].split(_FENCE)[0])
    except (OSError, IndexError, ValueError):
        return None


def contradicts(built: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> bool:
    """Whether two builds from the same recipe, seed, libraries and machine came to different files."""
    if earlier is None or any(built[key] != earlier.get(key) for key in built if key != "sha256"):
        return False
    return built["sha256"] != earlier.get("sha256")
