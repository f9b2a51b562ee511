"""status.json, provenance.json and train.jsonl: how far a run got, where it ran, how its training went."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from punie.results.records.base import Digest, File, Record


class StageStatus(Record):
    """One stage that a run reached."""

    stage: str
    """Its name; with its target behind a colon for an evaluation beside the one that counts."""
    key: str
    reused: bool
    reason: str = ""
    seconds: float
    """Time taken in this run."""


class Status(File):
    """status.json: how far a run, or a job of a sweep, got."""

    KIND = "a run's status"

    status: str
    """planned, running, finished, failed, killed, skipped or interrupted."""
    started: str | None = None
    """UTC, ISO 8601."""
    ended: str | None = None
    stages: list[StageStatus] = []
    pid: int | None = None
    store: str | None = None
    """Absolute path of the store."""
    uses: list[str] = []
    """Keys of the artifacts the run uses."""
    at: str | None = None
    """The stage being built."""
    error: str | None = None
    exit_code: int = 0


class Git(Record):
    """State of punie's checkout."""

    commit: str | None
    dirty: bool


class Machine(Record):
    """Where a run ran."""

    device: str
    chip: str
    system: str
    cores: int | None = None
    memory_gb: float | None = None


class ArtifactFiles(Record):
    """An artifact: its key and the sha256 of each file."""

    key: str
    files: dict[str, Digest]


class Provenance(File):
    """provenance.json: where and with what a run ran."""

    KIND = "a run's provenance"

    started: str | None = None
    ended: str | None = None
    command: list[str] = []
    overrides: list[str] = []
    config_sha256: str = ""
    git: Git | None = None
    packages: dict[str, str | None] = {}
    python: str | None = None
    machine: Machine | None = None
    environment: dict[str, str] = {}
    blas: str | None = None
    peak_memory_mb: float | None = None
    inputs: dict[str, Any] = {}
    """Digests of the base model, the data and the suite."""
    artifacts: dict[str, ArtifactFiles] = {}


class Metric(Record):
    """A line of train.jsonl."""

    model_config = ConfigDict(extra="allow")

    kind: str
    """train, valid or score."""
    iter: int
    update: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    tokens_per_second: float | None = None
    peak_memory_mb: float | None = None
