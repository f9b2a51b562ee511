"""The stages of one job as parts of a sweep: their keys, what is missing, and the time and disk it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from punie.config import Config
from punie.results.sweep import Part
from punie.run.pipeline import Plan, Step
from punie.store.artifacts import Artifact, Miss, Store
from punie.store.keys import artifact_key, digest


def parts_of(plan: Plan, config: Config) -> list[Part]:
    """The stages of one job; a key that cannot be known yet is a digest of the config that decides it."""
    found: dict[str, Part] = {}
    for step in plan.steps:
        key = step.key
        if key is None:
            upstream = [found[name].key for name in step.stage.needs(step.settings)]
            decides = [step.stage.identity(step.config), upstream, dataclasses.asdict(config.model)]
            key = f"unknown-{digest('unknown', [step.stage.name, *decides])}"
        nearest = step.miss.nearest if step.miss else None
        size = plan.bytes.get(step.name, nearest.size if nearest else 0)
        found[step.name] = Part(
            stage=step.stage.name,
            key=key,
            state=step.state,
            reason=step.reason,
            computes=step.stage.computes,
            seconds=None if step.artifact or nearest is None else _seconds(step, nearest),
            bytes=0 if step.artifact or not step.needed else size,
            material=step.material,
        )
    return list(found.values())


def _seconds(step: Step, nearest: Artifact) -> float | None:
    """What the nearest artifact took; a training scaled by its iterations."""
    if step.material is None:
        return None
    seconds = float(nearest.manifest["seconds"]) - nearest.info.get("waited_seconds", 0.0)
    then, now_is = (
        material["settings"].get("lora.iters") for material in (nearest.manifest["material"], step.material)
    )
    return seconds * now_is / then if then and now_is and step.stage.name == "train" else seconds


class Remembering(Store):
    """A store as it was at the first look: a thousand jobs ask for the same artifacts."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._known: dict[tuple[str, ...], Any] = {}

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact of a key, as it was at the first look."""
        return self._once(lambda: Store.find(self, stage, key), "find", stage, key)

    def explain(self, stage: str, material: Mapping[str, Any]) -> Miss:
        """Why it was not there."""
        return self._once(lambda: Store.explain(self, stage, material), "explain", artifact_key(material))

    def artifacts(self, stage: str | None = None) -> Iterator[Artifact]:
        """Every artifact, as they were at the first look."""
        return iter(self._once(lambda: [*Store.artifacts(self, stage)], "artifacts", stage or ""))

    def _once(self, look: Callable[[], Any], *question: str) -> Any:
        if question not in self._known:
            self._known[question] = look()
        return self._known[question]
