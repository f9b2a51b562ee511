"""What a run would do: its stages in order, each with its key, and whether it is cached and why not.

A stage's key is the hash of its *material*: the stage and its version, the config it reads, the keys of
the stages it needs, the digests of its inputs, punie's own sources where they were edited, and for stages
that compute the device and the versions of mlx and mlx-lm. Keys chain on keys, so a whole plan is known
before anything runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from punie.config.schema import Config
from punie.model.device import device_kind, version
from punie.stages import COPIES, STAGES
from punie.stages.contract import Contents, Stage
from punie.stages.inputs import model_parameters
from punie.store.artifacts import Artifact, Miss, Store
from punie.store.keys import SCHEMA, artifact_key
from punie.store.sources import sourced
from punie.util.errors import PunieError

SHOWN = ("preflight", *COPIES)
"""The stages a run is for: what is checked, and what its directory shows."""


@dataclass
class Step:
    """One stage of a plan."""

    name: str
    """The stage's name; with its target behind a colon for an evaluation beside the one that counts."""
    stage: Stage
    config: Config
    """The run's config, as this step sees it."""
    settings: Any
    """The stage's slice of it."""
    material: Contents | None = None
    """What its key is made of; None as long as an input is unknown."""
    key: str | None = None
    artifact: Artifact | None = None
    """What the store has for the key: a hit."""
    miss: Miss | None = None
    """Why it has nothing."""
    rejected: str | None = None
    """Why the artifact that the store has, or had, is built again."""
    problem: PunieError | None = None
    """Why the key cannot be known."""
    seconds: float = 0.0
    """Time taken in this run."""
    reused: bool = False
    running: bool = False
    """Its build began and has not ended: what a run was at when it failed."""
    needed: bool = True
    """This run uses its artifact; False where everything that is made from it is there already."""

    @property
    def kept(self) -> Artifact | None:
        """The artifact, unless it is going to be built again."""
        return None if self.rejected else self.artifact

    @property
    def state(self) -> str:
        """``hit``, ``blocked``, ``miss``, or ``skip`` where nothing needs it."""
        if self.kept:
            return "hit"
        if self.problem:
            return "blocked"
        return "miss" if self.needed else "skip"

    @property
    def reason(self) -> str:
        """Hit or miss, and why, in a few words."""
        if self.problem is not None:
            return str(self.problem.what)
        if self.rejected is not None:
            return self.rejected
        if self.artifact is None and not self.needed:
            return "not needed: all that is made from it is there"
        if self.artifact is not None:
            return f"built {self.artifact.manifest['created'].replace('T', ' ').removesuffix('+00:00')}"
        return str(self.miss) if self.miss else "an input is not known yet"


@dataclass
class Plan:
    """The stages of one run, in order, and what they will take."""

    steps: list[Step] = field(default_factory=list)
    bytes: Mapping[str, int] = field(default_factory=dict)
    """Disk that a missing artifact will take, roughly, by step."""
    parameters: int | None = None
    """Of the base model; None if it is not on this machine."""

    @property
    def needed_bytes(self) -> int:
        """Disk that what is missing will take, roughly."""
        return sum(self.bytes.values())

    @property
    def by_name(self) -> dict[str, Step]:
        """The steps by name."""
        return {step.name: step for step in self.steps}

    def artifacts(self) -> dict[str, Artifact]:
        """What is there, by stage."""
        return {step.name: step.artifact for step in self.steps if step.artifact is not None}


def plan(config: Config, store: Store) -> Plan:
    """What a run of this config would do; changes nothing and imports neither mlx nor transformers."""
    steps: dict[str, Step] = {}
    for name, stage, seen in _wanted(config):
        step = steps[name] = Step(name, stage, seen, stage.settings(seen))
        resolve_key(step, steps, store)
    result = Plan(list(steps.values()))
    reject(result)
    mark_needed(result, SHOWN)
    result.parameters = model_parameters(config)
    result.bytes = {
        step.name: step.stage.disk(step.settings, result.parameters)
        for step in result.steps
        if step.needed and step.kept is None and result.parameters is not None
    }
    return result


def reject(plan: Plan) -> None:
    """Find what is there and is built again, such as answers of a server that was not verified."""
    for step in plan.steps:
        again = [name for name in step.stage.needs(step.settings) if plan.by_name[name].rejected]
        if step.artifact is not None:
            step.rejected = step.stage.unfinished(step.artifact)
            if step.rejected is None and again:
                step.rejected = f"{again[0]} runs again"


def mark_needed(plan: Plan, wanted: Collection[str]) -> None:
    """Find the steps this run needs: those wanted, and those that a missing one is made from."""
    needed = set(wanted)
    for step in reversed(plan.steps):
        step.needed = step.name in needed or step.stage.name in needed
        if step.needed and step.kept is None:
            needed |= set(step.stage.needs(step.settings))


def _wanted(config: Config) -> list[tuple[str, Stage, Config]]:
    """The stages that a run is for, and all that they depend on, in running order."""
    found: dict[str, tuple[str, Stage, Config]] = {}
    todo = [*SHOWN]
    while todo:
        name = todo.pop()
        if name not in found:
            stage, seen = _step(name, config)
            found[name] = (name, stage, seen)
            todo += stage.needs(stage.settings(seen))
    return sorted(found.values(), key=lambda each: (STAGES.index(each[1]), each[0]))


def _step(name: str, config: Config) -> tuple[Stage, Config]:
    """The stage of a step, and the config as it sees it: ``evaluate:base`` evaluates another target."""
    plain, _, target = name.partition(":")
    stage = next(stage for stage in STAGES if stage.name == plain)
    if not target:
        return stage, config
    return stage, dataclasses.replace(config, eval=dataclasses.replace(config.eval, target=target))


def resolve_key(step: Step, steps: Mapping[str, Step], store: Store) -> None:
    """Find the step's material and key, and what the store has for it."""
    stage = step.stage
    upstream = {name: steps[name].key for name in stage.needs(step.settings)}
    try:
        contents = stage.contents(step.settings)
    except PunieError as error:
        step.problem = error
        return
    step.problem = None
    if any(key is None for key in upstream.values()):
        return
    step.material = {
        "schema": SCHEMA,
        "stage": stage.name,
        "version": stage.version,
        "settings": stage.identity(step.config),
        "upstream": upstream,
        "contents": contents,
    }
    if stage.libraries:
        step.material["libraries"] = {name: version(name) for name in stage.libraries}
    if stage.computes:
        step.material["device"] = device_kind()
    step.material = sourced(step.material, *stage.sources(step.settings))
    step.key = artifact_key(step.material)
    step.artifact = store.find(stage.name, step.key)
    step.miss = None if step.artifact else store.explain(stage.name, step.material)
