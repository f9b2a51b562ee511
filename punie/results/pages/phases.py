"""The pages of docs/phases/, generated from the presets: one for each phase, and their tree.

python -m punie.results.pages.phases [FOLDER]     as make docs does; FOLDER is docs/phases unless given
"""

from __future__ import annotations

import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

from punie.config import resolve
from punie.config.compose import compose
from punie.config.presets import Preset, presets
from punie.results.pages.render import environment
from punie.results.verdict import place
from punie.util.files import write_text

FOLDER = Path("docs/phases")
_GENERATED = "<!-- Generated from conf/phase/"
_REFERENCE = "33b"
"""The phase whose page shows all values; the others show what differs from it."""
_VALUES = (
    "model.repo", "data.path", "data.expected_train", "data.expected_valid", "lora.iters", "lora.batch_size",
    "lora.grad_accumulation_steps", "lora.learning_rate", "lora.num_layers", "lora.rank", "lora.scale",
    "lora.mask_prompt", "lora.seed", "lora.save_every", "lora.select", "lora.steps_per_eval",
    "lora.val_batches", "quantize.bits", "quantize.group_size", "eval.suite", "eval.target",
    "eval.temperature", "eval.repeats", "eval.stop",
)  # fmt: skip
"""The config fields that a page shows."""


def pages() -> dict[str, str]:
    """Every page by its file name."""
    known = presets()
    page, index = (
        environment(autoescape=False).get_template(f"{name}.md.jinja") for name in ("phase", "phases")
    )
    found = {f"{name}.md": page.render(_facts(preset, known)) for name, preset in known.items()}
    tree = {name: preset for name, preset in known.items() if preset.phase.outcomes}
    tree = dict(sorted(tree.items(), key=lambda each: len(place(each[0], known))))  # from its root on
    return {"README.md": index.render(presets=known, tree=tree, edges=_edges(tree)), **found}


def write(folder: Path) -> list[Path]:
    """Write the pages, and remove generated ones of phases that are gone; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {folder / name: text for name, text in pages().items()}
    for path in folder.glob("*.md"):
        if path not in found and path.read_text("utf-8").startswith(_GENERATED):
            path.unlink()
    for path, text in found.items():
        write_text(path, text)
    return list(found)


def _facts(preset: Preset, known: dict[str, Preset]) -> dict[str, Any]:
    phase = preset.phase
    reference = _REFERENCE if phase.id != _REFERENCE and _REFERENCE in known else None
    usual = _values(reference).items() if reference else ()
    return {
        "phase": phase,
        "preset": preset,
        "reference": reference,
        "values": {
            key: v for key, v in _values(phase.id).items() if key not in preset.axes and (key, v) not in usual
        },
        "before": [source for source, target, _ in _edges(known) if target == phase.id != source],
    }


def _values(phase: str) -> dict[str, Any]:
    config = resolve(compose([f"+phase={phase}"]))
    return {key: attrgetter(key)(config) for key in _VALUES}


def _edges(known: dict[str, Preset]) -> list[tuple[str, str | None, str]]:
    """Phase, the phase that an outcome leads to, and the outcome's verdict."""
    return [
        (name, outcome.next.split()[0] if outcome.next else None, outcome.verdict)
        for name, preset in known.items()
        for outcome in preset.phase.outcomes
    ]


if __name__ == "__main__":
    for written in write(Path(sys.argv[1]) if sys.argv[1:] else FOLDER):
        print(written)
