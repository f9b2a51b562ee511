"""One run: its directory, each file of it loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from punie.results import files
from punie.results.config import RunConfig
from punie.results.records import Metric, Provenance, Results, Sample, Status
from punie.store.keys import digest
from punie.util.errors import DataError, PunieError

CONFIG, STATUS, RESULTS, PROVENANCE = "config.yaml", "status.json", "results.json", "provenance.json"
SAMPLES, METRICS = "samples.jsonl", "train.jsonl"
_LISTED = 5
"""Runs that an error names."""
SURROUNDINGS = {"git", "packages", "python", "machine", "environment", "blas"}
"""The fields of a provenance that say with what and where a run ran."""


@dataclass(frozen=True)
class Run:
    """A run's directory. Every property reads its file once, and raises DataError where it cannot."""

    folder: Path

    @cached_property
    def config(self) -> RunConfig:
        """The resolved config."""
        return RunConfig.read(self.folder / CONFIG)

    @cached_property
    def status(self) -> Status:
        """How far it got; planned if it has not begun."""
        return read_status(self.folder)

    @cached_property
    def results(self) -> Results:
        """Scores, identity, verdict, artifacts."""
        return files.read(self.folder / RESULTS, Results)

    @cached_property
    def provenance(self) -> Provenance:
        """Where and with what it ran."""
        return files.read(self.folder / PROVENANCE, Provenance)

    @cached_property
    def samples(self) -> list[Sample]:
        """Every response, the missing ones among them."""
        return files.read_samples(self.folder / SAMPLES)

    @cached_property
    def metrics(self) -> list[Metric]:
        """The metrics of its training; none if nothing was trained."""
        return files.read_metrics(self.folder / METRICS)

    @property
    def store(self) -> Path:
        """The store it ran with."""
        return Path(self.status.store or self.config.value("store.dir") or "outputs/store")

    def require_finished(self) -> Run:
        """This run, if it has finished.

        Raises:
            PunieError: It has not, or the folder is not a run's.
        """
        if not (self.folder / RESULTS).exists() and (found := _below(self.folder)):
            raise _several(self.folder, found)
        if not (self.folder / RESULTS).exists():
            reason = (self.status.error or "it has no results.json").splitlines()[0]
            raise unfinished(self.folder, f"its status is {self.status.status}: {reason}")
        self.results, self.config  # noqa: B018 - read now, so that their errors come first
        return self

    def doubts(self) -> list[str]:
        """Why it is not certain that the recorded weights gave these responses."""
        found = [self.results.identity.unverified]
        if samples_digest(self.samples) != self.results.answers:
            found.append(f"{SAMPLES} is not as the run wrote it")
        return [reason for reason in found if reason]


def read_status(folder: Path) -> Status:
    """A run's status; planned if it has not begun.

    Raises:
        DataError: status.json is damaged.
    """
    try:
        return files.read(folder / STATUS, Status)
    except DataError:
        if (folder / STATUS).exists():  # asked afterwards, since a sweep may delete it
            raise
        return Status(version=Status.VERSION, status="planned")


def samples_digest(samples: Sequence[Sample]) -> str:
    """One digest of all responses, without the times they took."""

    def timeless(values: dict[str, Any]) -> dict[str, Any]:
        earlier = {"earlier": [*map(timeless, values["earlier"])]} if "earlier" in values else {}
        return {**values, **earlier, "seconds": None}

    return digest("answers", [timeless(sample.plain()) for sample in samples])


def require_responses(run: Run) -> list[Sample]:
    """A run's responses, of which at least one is there.

    Raises:
        PunieError: samples.jsonl cannot be used, or every response is missing.
    """
    if all(not sample.answered for sample in run.samples):
        raise PunieError(
            "Every response of the run is missing; there is nothing to score.",
            where=run.folder / SAMPLES,
            found=run.samples[0].missing,
            next_step="run it again",
        )
    return run.samples


def _below(folder: Path) -> list[Path]:
    """The runs in a folder, at most three levels down, the latest first."""
    patterns = ("*", "*/*", "*/*/*")
    found = {path.parent for each in patterns for path in folder.glob(f"{each}/{RESULTS}")}
    return sorted(found, key=lambda run: (run / RESULTS).stat().st_mtime, reverse=True)


def _several(folder: Path, found: Sequence[Path]) -> DataError:
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return DataError(
        "This folder holds runs; take one of them.",
        where=folder,
        found=", ".join(map(str, found[:_LISTED])) + more,
        next_step=f"the latest is {found[0]}; all of them: punie summarize {folder}",
    )


def unfinished(folder: Path, found: str) -> DataError:
    """The error for a folder that is not a finished run's."""
    return DataError(
        "This is not the directory of a finished run.",
        where=folder,
        found=found,
        expected="results.json, status.json and config.yaml, as punie writes them",
        next_step="take the path that a run prints at its end",
    )
