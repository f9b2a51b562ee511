"""Runs from disk, each read once: of run directories, sweeps, and folders of them.

A run that cannot be read is kept with the reason, and one that has not finished with its state, so that
the tables show a gap where there is one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from punie.evals.scores import ALWAYS, METRICS
from punie.results.summary.blocks import load
from punie.store.keys import digest
from punie.store.references import MARKS
from punie.util import jsonl
from punie.util.errors import DataError, PunieError
from punie.util.plain import parse_json, require_plain_yaml

FINISHED, INCOMPLETE, NOT_STARTED, UNREAD = "finished", "incomplete", "not started", "unread"
"""States beside those that a run gives itself: finished with answers missing, planned by a sweep only,
and not readable."""

_MARKS = {"status.json", "config.yaml", "results.json", ".hydra"}
"""Any of them makes a folder a run's, or half of one."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one run answered to one prompt."""

    category: str
    scores: Mapping[str, tuple[float, ...]]
    """By metric, a value for each repeat; of ``lock`` one however many. What a run has not is not there."""
    taxonomy: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One run, or what is known of it."""

    folder: Path
    state: str
    """``finished`` if its scores count."""
    reason: str | None = None
    """Why they do not."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved config as plain values; empty if it cannot be read."""
    config_sha256: str = ""
    evidence: str = ""
    """Key of the evaluation and digest of the answers: two runs that share it tell one thing."""
    base: str | None = None
    """Key of the base model."""
    suite: tuple[str, str] | None = None
    """Name and sha256."""
    unverified: str | None = None
    """Why it is not sure which weights answered."""
    missing: int = 0
    """Answers that never came."""
    answers: Mapping[str, Answers] = field(default_factory=dict)
    """By prompt id, in the suite's order."""
    overrides: Sequence[str] = ()
    """Those that composed its config, of a run that has a phase."""
    judged: Mapping[str, Any] | None = None
    """``scores`` and ``sampling`` of results.json, of a run that has a phase."""

    @property
    def name(self) -> str:
        """The composed name."""
        return str(self.config.get("name", self.folder.name))

    @property
    def finished(self) -> bool:
        """Its scores count."""
        return self.state == FINISHED


@dataclass(frozen=True)
class Collected:
    """All that was found."""

    runs: tuple[Run, ...]
    """In the order of their folders."""
    merged: int = 0
    """Runs left out, because another has the same answers or took the place of one that failed."""


def collect(places: Sequence[Path]) -> Collected:
    """Read every run below some folders.

    Args:
        places: Run directories, sweep directories, or folders of them at any depth.

    Raises:
        PunieError: A place is no folder, or there is no run in any of them.
    """
    folders: dict[str, tuple[Path, Planned | None]] = {}
    broken: list[Run] = []
    for place in places:
        if not place.is_dir():
            raise PunieError(
                "There is no such folder.",
                where=place,
                expected="a run's directory, a sweep's, or a folder of them, such as outputs/runs",
            )
        for folder, planned in _walk(place, broken):
            folders.setdefault(os.path.realpath(folder), (folder, planned))
    if not folders and not broken:
        raise PunieError(
            "There are no runs here.",
            where=", ".join(map(str, places)),
            expected="folders with config.yaml, status.json and results.json",
            next_step="python -m punie makes a run below outputs/runs, python -m punie -m a sweep",
        )
    return _merge([*broken, *(read(folder, planned) for folder, planned in folders.values())])


class Planned(NamedTuple):
    """What a sweep's plan has for a job."""

    config: Mapping[str, Any]
    overrides: Sequence[str]


def read(folder: Path, planned: Planned | None = None) -> Run:
    """Read one run's directory.

    Args:
        folder: Its folder.
        planned: What a sweep's plan has for it; its config stands in for one not yet written.
    """
    config: Mapping[str, Any] = {}
    sha256, overrides = "", planned.overrides if planned else ()
    try:
        if planned is None or (folder / "config.yaml").exists():
            config, sha256 = _checked(folder / "config.yaml", _yaml(folder / "config.yaml"))
        else:
            config, sha256 = _checked(folder, planned.config)
        if planned is not None and not (folder / "status.json").exists():
            return Run(folder, NOT_STARTED, None, config, sha256, overrides=overrides)
        if planned is None and config.get("phase"):
            overrides = _overrides(folder / "provenance.json")
        status = _object(folder / "status.json")
        state = status.get("status")
        if state != FINISHED:
            words = str(status.get("error") or "").partition("\n")[0]
            return Run(folder, str(state), words or None, config, sha256, overrides=overrides)
        return _finished(folder, config, sha256, overrides)
    except PunieError as error:
        return Run(folder, UNREAD, _why(error, folder), config, sha256, overrides=overrides)


def _walk(place: Path, broken: list[Run]) -> Iterator[tuple[Path, Planned | None]]:
    """The runs' folders, with what a plan has for them."""
    for root, folders, files in os.walk(place):
        here, found = Path(root), {*folders, *files}
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if found & MARKS:
            folders.clear()
        elif "plan.json" in found:
            try:
                yield from _planned(here)
            except PunieError as error:
                broken.append(Run(here, UNREAD, _why(error, here)))
        elif found & _MARKS and "jobs" not in found:
            folders.clear()
            yield here, None


def _planned(sweep: Path) -> Iterator[tuple[Path, Planned]]:
    plan = _object(sweep / "plan.json")
    try:
        jobs = [
            (f"{job['number']:03d}-{job['id']}", Planned(dict(job["config"]), [*map(str, job["overrides"])]))
            for job in plan["jobs"]
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise _unknown(sweep / "plan.json", plan, error) from None
    for name, planned in jobs:
        yield sweep / "jobs" / name, planned


def _overrides(path: Path) -> list[str]:
    """Those of a run by itself; none where it did not get so far as to write them down."""
    found = _object(path).get("overrides") if path.exists() else None
    return [*map(str, found)] if isinstance(found, list) else []


def _yaml(path: Path) -> object:
    try:
        text = path.read_text("utf-8")
        require_plain_yaml(text)
        return load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _unreadable(path, error) from None


def _checked(path: Path, config: object) -> tuple[Mapping[str, Any], str]:
    """A config with its digest, if it has what a summary asks of it.

    Raises:
        DataError: It has not.
    """
    try:
        if isinstance(config, dict) and isinstance(config.get("model", {}), dict):
            float(config["eval"]["temperature"])
            int(config["lora"]["seed"])
            phase: dict[str, Any] = config.get("phase") or {"score": METRICS[0]}
            values = [criterion["value"] for criterion in phase.get("criteria", ()) if criterion["metric"]]
            if phase["score"] in METRICS and all(isinstance(each, (int, float)) for each in values):
                return config, digest("config", config)
        reason = "something else"
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        reason = f"{type(error).__name__} {error}"
    raise DataError("It is no run's config.", where=path, found=reason)


def _finished(folder: Path, config: Mapping[str, Any], sha256: str, overrides: Sequence[str]) -> Run:
    path = folder / "results.json"
    results = _object(path)
    try:
        suite, counts = results["identity"]["suite"], results["generation"]["samples"]
        artifacts, lock = results["artifacts"], results.get("lock")
        run: dict[str, Any] = {
            "evidence": f"{artifacts['evaluate']['key']} {results.get('answers', '')}",
            "base": artifacts.get("base", {}).get("key"),
            "suite": (str(suite["name"]), str(suite["sha256"])),
            "unverified": results["identity"].get("unverified"),
            "overrides": overrides,
        }
        if config.get("phase"):
            run["judged"] = {name: results.get(name, {}) for name in ("scores", "sampling")}
        no_score = results["scores"]["strict"]["overall"]["mean"] is None
        locked: dict[str, float] = {}
        if lock:
            here = lock["temperatures"].index(lock["at"]["temperature"])
            locked = {name: each["total"][here] for name, each in lock["prompts"].items()}
            _require_share(path, "lock", *locked.values())
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _unknown(path, results, error) from None
    missing, answers = _answers(folder / "samples.jsonl", locked, counts)
    if no_score or not answers:
        words = f"{missing} of {counts} answers are missing"
        return Run(folder, INCOMPLETE, words, config, sha256, missing=missing, **run)
    return Run(folder, FINISHED, None, config, sha256, missing=missing, answers=answers, **run)


def _answers(path: Path, locked: Mapping[str, float], count: int) -> tuple[int, dict[str, Answers]]:
    """The number of missing answers, and the others by prompt.

    Raises:
        DataError: A line cannot be read, a score is not from 0 to 1, or there are more or fewer lines.
    """
    lines, missing = 0, 0
    rows: dict[str, list[tuple[str, dict[str, float], str]]] = {}
    try:
        for line in jsonl.read(path):
            if line.problem is not None:
                raise line.problem
            lines += 1
            row = line.value
            if row.get("missing") is not None:
                missing += 1
                continue
            scores = {name: row["scores"][name]["value"] for name in (*ALWAYS, *row["scores"])}
            _require_share(path, line.number, *scores.values(), row["wrapper"])
            scores["wrapper"] = float(row["wrapper"])
            found = sys.intern(row["category"]), scores, sys.intern(row["taxonomy"])
            rows.setdefault(sys.intern(row["id"]), []).append(found)
    except OSError as error:
        raise _unreadable(path, error) from None
    except (LookupError, TypeError, AttributeError) as error:
        raise _unknown(path, {}, error) from None
    if lines != count:
        raise DataError("The answers are not whole.", where=path, found=f"{lines} of {count} lines")
    found = {}
    for name, each in rows.items():
        categories, scores, taxonomy = zip(*each, strict=True)
        values = {metric: tuple(of[metric] for of in scores if metric in of) for metric in scores[0]}
        lock = {"lock": (locked[name],)} if name in locked else {}
        found[name] = Answers(categories[0], values | lock, taxonomy)
    return missing, found


def _require_share(path: Path, place: object, *values: float) -> None:
    if not all(0 <= value <= 1 for value in values):  # NaN is refused as well
        raise DataError("A score is not from 0 to 1.", where=f"{path}:{place}", found=list(values))


def _merge(runs: Sequence[Run]) -> Collected:
    """Each evaluation once; what failed and was run again, as it came out in the end.

    The same answers twice, from the store or from another machine, are not two samples.
    """
    kept: dict[str, Run] = {}
    configs: set[str] = set()
    for run in sorted(runs, key=lambda each: each.state != FINISHED):  # the finished ones first
        if run.finished:
            kept.setdefault(run.evidence, run)
        elif run.state == UNREAD:
            kept[str(run.folder)] = run
        elif run.config_sha256 not in configs:
            kept[run.config_sha256] = run
        configs.add(run.config_sha256)
    chosen = {id(run) for run in kept.values()}
    return Collected(tuple(run for run in runs if id(run) in chosen), len(runs) - len(chosen))


def _why(error: PunieError, folder: Path) -> str:
    """An error in a line, its file relative to the run's folder."""
    where = (error.where or "").removeprefix(f"{folder}{os.sep}")
    return ": ".join(words for words in (where, error.what.rstrip("."), error.found) if words)


def _object(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(value, dict):
        raise DataError("It holds no object.", where=path)
    return value


def _unreadable(path: Path, error: Exception) -> DataError:
    words = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
    return DataError("It cannot be read.", where=path, found=words)


def _unknown(path: Path, value: Mapping[str, Any], error: Exception) -> DataError:
    return DataError(
        "It is not as this version of punie writes it.",
        where=path,
        found=f"schema {value.get('schema', 'unknown')}, {type(error).__name__} {error}",
        next_step="run its config again; what is in the store is reused",
    )
