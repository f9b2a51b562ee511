"""The records of a sweep: its plan (plan.json) and what became of it (sweep.json)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer, model_validator

from punie.config.presets import CARRIED
from punie.results import files
from punie.results.config import RunConfig
from punie.results.records import File, Record, Status, SweepOutcome
from punie.results.run import read_status
from punie.util.errors import DataError
from punie.util.jsonl import excerpt

if TYPE_CHECKING:
    from punie.config.schema import Config

PLAN, FACTS = "plan.json", "sweep.json"
LONG = 100
"""Characters of a job's overrides that are shown."""


def _config(values: object) -> object:
    try:
        return values if isinstance(values, RunConfig) else RunConfig.parse(values, Path(PLAN))
    except DataError as error:
        raise ValueError(f"not a run config: {error.found}") from None


class Part(Record):
    """One stage that one or more jobs need."""

    stage: str
    key: str
    """``unknown-…`` as long as an input, such as the base model, is not on this machine."""
    state: str
    """``hit``, ``miss``, ``skip`` (nothing needs it) or ``blocked``."""
    reason: str
    computes: bool
    seconds: float | None
    """Time that the nearest artifact took, scaled by the iterations; None if there is none."""
    bytes: int
    """Estimated size on disk; 0 for what is there."""
    material: dict[str, Any] | None
    """The inputs of its key; None as long as one is unknown."""

    @property
    def missing(self) -> bool:
        """It is to be built."""
        return self.state not in ("hit", "skip")

    @property
    def expensive(self) -> bool:
        """It is to be built, and no two jobs should build it at once."""
        return self.computes and self.missing


class PlannedJob(Record):
    """One job of a sweep."""

    number: int
    """Its place in the grid."""
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]
    """The first digits of its config's digest; the job compares them before it runs."""
    overrides: list[str]
    config: Annotated[
        InstanceOf[RunConfig],
        BeforeValidator(_config),
        PlainSerializer(lambda config: config.values),
    ]
    stages: list[str]
    """Keys of its stages, in order."""

    @property
    def folder(self) -> str:
        """Its folder, relative to the sweep's; the same however often the sweep is resumed."""
        return f"jobs/{self.number:03d}-{self.id}"

    def status(self, sweep: Path) -> Status:
        """How far it got in a sweep's folder; planned if it has not begun."""
        return read_status(sweep / self.folder)

    def typed(self) -> Config:
        """Its config as checked, typed objects.

        Raises:
            PunieError: A field is unknown or has a wrong value.
        """
        return self.config.typed(Path(PLAN))


class SweepPlan(File):
    """plan.json: every job with its config, every distinct stage, and the order of the jobs."""

    KIND = "the plan of a sweep"

    arguments: list[str]
    """The command line, without ``-m``; flags that say where presets are come first."""
    jobs: list[PlannedJob]
    parts: dict[str, Part]
    """Every distinct stage, by key."""
    waves: list[list[int]]
    """Numbers of the jobs in the order in which they start."""
    duplicates: int = 0
    """Jobs left out because another has the same config."""
    name: str = ""
    """The composed name; of the first job where they differ."""
    run_id: str = ""
    cwd: str = ""
    """The folder that relative paths start from."""
    created: str = ""
    punie: str = ""
    problems: list[str] = Field(default=[], exclude=True)
    """What stands in the way of a job, as far as it is known; not written."""
    sharing: dict[str, list[int]] = Field(default={}, exclude=True)
    """Jobs whose trainings share the frozen layers' output, by what that takes and saves; not written."""
    parameters: list[int | None] = Field(default=[], exclude=True)
    """Of each job's base model, None if it is not on this machine; not written."""

    @model_validator(mode="after")
    def _is_consistent(self) -> SweepPlan:
        if any(each.startswith("-") and not each.startswith(CARRIED) for each in self.arguments):
            raise ValueError("an argument is an option, not an override")
        if any(part.key != key for key, part in self.parts.items()):
            raise ValueError("a stage is listed under another key than its own")
        for number, job in enumerate(self.jobs):
            if job.number != number or not self.parts.keys() >= set(job.stages):
                raise ValueError(f"job {number} has another number, or a stage that is not listed")
        if sorted(number for wave in self.waves for number in wave) != list(range(len(self.jobs))):
            raise ValueError("the waves do not hold every job once")
        return self

    @classmethod
    def read(cls, folder: Path) -> SweepPlan:
        """The plan in a sweep's folder.

        Raises:
            DataError: The folder is not a sweep's, or its plan is damaged or of a newer punie.
        """
        if not (folder / PLAN).is_file():
            raise DataError(
                "The folder is not a sweep's.",
                where=folder,
                found=f"no {PLAN} in it" if folder.is_dir() else "no such folder",
                expected="the folder that a sweep printed, outputs/sweeps/NAME/ID",
            )
        return files.read(folder / PLAN, cls)

    @cached_property
    def by_folder(self) -> dict[str, PlannedJob]:
        """The jobs by the name of their folder."""
        return {Path(job.folder).name: job for job in self.jobs}

    @cached_property
    def axes(self) -> list[str]:
        """The overrides whose values differ among the jobs, in the command line's order."""
        return varied([job.overrides for job in self.jobs])

    def values(self, job: PlannedJob) -> dict[str, str]:
        """A job's value on each axis."""
        given = dict(override.partition("=")[::2] for override in job.overrides)
        return {axis.lstrip("+"): given[axis].strip("'\"") for axis in self.axes if axis in given}

    def label(self, job: PlannedJob) -> str:
        """A job's values on the axes, in few words."""
        return brief([f"{axis}={value}" for axis, value in self.values(job).items()] or job.overrides, 70)

    def parts_of(self, job: PlannedJob) -> list[Part]:
        """The stages of a job, in order."""
        return [self.parts[key] for key in job.stages]


class JobFacts(Record):
    """How one job of a sweep ended."""

    number: int
    id: str
    folder: str
    overrides: list[str]
    axes: dict[str, str]
    status: str
    exit_code: int
    score: float | None
    """The overall score that its phase's criteria are about; keyword without a phase."""
    strict: float | None
    seconds: float
    built: list[str]
    """The stages that it built."""
    error: str | None
    traceback: str | None
    """Path of the traceback, relative to the sweep's folder."""
    result: str | None
    """Digest of what it measured, times left out."""


class SweepFacts(File):
    """sweep.json: how each job ended, what was measured, and what a phase's outcomes say of it."""

    KIND = "the facts of a sweep"

    name: str
    command: list[str]
    axes: list[str]
    duplicates: int
    jobs: list[JobFacts]
    outcome: SweepOutcome | None
    """What the phase's outcomes say of the jobs; None without a phase."""
    digest: str
    """Of all that was measured: the same however often the sweep was interrupted."""
    status: str
    """finished, failed or interrupted."""


def varied(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The keys of overrides whose values differ among jobs, in the command line's order."""
    values: dict[str, set[str]] = {}
    for overrides in jobs:
        for override in overrides:
            key, _, value = override.partition("=")
            values.setdefault(key, set()).add(value)
    return [key for key, found in values.items() if len(found) > 1]


def brief(overrides: Sequence[str], width: int = LONG) -> str:
    """A job's overrides in a line of bounded length."""
    return excerpt(" ".join(overrides), width) or "(no overrides)"
