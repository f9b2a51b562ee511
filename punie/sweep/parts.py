"""The stages of one job as parts of a sweep: their keys, what is missing, and what that will take."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.config import Config
from punie.run.pipeline import Plan, Step
from punie.store.artifacts import Artifact, Miss, Store
from punie.store.keys import artifact_key, digest


@dataclass(frozen=True)
class Part:
    """One stage that one or more jobs need."""

    stage: str
    key: str
    """``unknown-…`` as long as an input, such as the base model, is not on this machine."""
    state: str
    """``hit``, ``miss``, ``skip`` (nothing needs it) or ``blocked``."""
    reason: str
    computes: bool
    seconds: float | None
    """What the nearest artifact took, longer or shorter with the iterations; None if there is none."""
    bytes: int
    """What it will take on disk, roughly; 0 for what is there."""
    material: Mapping[str, Any] | None

    @property
    def missing(self) -> bool:
        """It is to be built."""
        return self.state not in ("hit", "skip")

    @property
    def expensive(self) -> bool:
        """It is to be built, and no two jobs should want to build it."""
        return self.computes and self.missing


def parts_of(plan: Plan, config: Config) -> list[Part]:
    """The stages of one job; a key that cannot be known yet is named by the config that decides it."""
    found: dict[str, Part] = {}
    for step in plan.steps:
        key = step.key
        if key is None:
            upstream = [found[name].key for name in step.stage.needs(step.settings)]
            decides = [step.stage.identity(step.config), upstream, dataclasses.asdict(config.model)]
            key = f"unknown-{digest('unknown', [step.stage.name, *decides])}"
        found[step.name] = Part(
            stage=step.stage.name,
            key=key,
            state=step.state,
            reason=step.reason,
            computes=step.stage.computes,
            seconds=None if step.artifact else _seconds(step),
            bytes=0 if step.artifact or not step.needed else _bytes(step, plan),
            material=step.material,
        )
    return list(found.values())


def _seconds(step: Step) -> float | None:
    nearest = step.miss.nearest if step.miss else None
    if nearest is None or step.material is None:
        return None
    seconds = float(nearest.manifest["seconds"]) - nearest.info.get("waited_seconds", 0.0)
    then, now_is = (
        material["settings"].get("lora.iters") for material in (nearest.manifest["material"], step.material)
    )
    return seconds * now_is / then if then and now_is and step.stage.name == "train" else seconds


def _bytes(step: Step, plan: Plan) -> int:
    """What the plan of the run says of the stage, or else the nearest artifact's size."""
    nearest = step.miss.nearest.size if step.miss and step.miss.nearest else 0
    return plan.bytes.get(step.name, nearest)


class Remembering(Store):
    """A store as it was when it was first looked at: a thousand jobs ask the same questions.

    Args:
        root: The store's folder.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._found: dict[str, Artifact | None] = {}
        self._why: dict[str, Miss] = {}
        self._all: dict[str | None, tuple[list[Artifact], Iterator[Artifact]]] = {}

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact of a key, as it was at the first look."""
        if key not in self._found:
            self._found[key] = super().find(stage, key)
        return self._found[key]

    def explain(self, stage: str, material: Mapping[str, Any]) -> Miss:
        """Why it was not there."""
        key = artifact_key(material)
        if key not in self._why:
            self._why[key] = super().explain(stage, material)
        return self._why[key]

    def artifacts(self, stage: str | None = None) -> Iterator[Artifact]:
        """Every artifact, as they were at the first look; none is read before it is asked for."""
        if stage not in self._all:
            self._all[stage] = [], super().artifacts(stage)
        known, more = self._all[stage]
        for place in itertools.count():
            if place == len(known):
                if (artifact := next(more, None)) is None:
                    return
                known.append(artifact)
            yield known[place]
