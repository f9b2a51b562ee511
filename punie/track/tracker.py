"""What a tracker is told of a run or a sweep: parameters, metrics, tags, files, which all of them have."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.results import files
from punie.results.records import Estimate, Evaluation
from punie.results.run import CONFIG, METRICS, PROVENANCE, RESULTS, STATUS, Run
from punie.results.sweep import FACTS, PLAN, SweepFacts, SweepPlan
from punie.store.keys import digest
from punie.train.callbacks import Callback, Record

PROJECT = "punie"
"""Project or experiment, unless ``track.project`` or the library's own variable names one."""
_KEPT = ("report.html", RESULTS, CONFIG, PROVENANCE, "summary.html", "summary.csv", FACTS)
"""Files of a run or a sweep that a tracker gets. The responses stay here."""
_ID = 16
Message = tuple[str, Mapping[str, Any]]
"""Name of a method of ``Callback``, and its arguments."""


@dataclass(frozen=True)
class Told:
    """A run or a sweep, as a tracker is told of its start."""

    id: str
    """The same whenever it is sent: hex digits."""
    name: str
    folder: Path
    parameters: Mapping[str, Any]
    """The composed config, flattened: dotted names to scalars, or to lists as JSON."""
    tags: Mapping[str, str]
    parent: str | None = None
    """Id of the sweep that it is a job of."""
    group: str | None = None
    """Name of that sweep."""


class Tracker(Callback):
    """Base of the trackers: an entry implements five steps by its library's client.

    A run that is told again, from its files, replaces what the tracker has of it: it has the same id.
    """

    def __init__(self, project: str | None = None) -> None:
        self.project = project

    @abstractmethod
    def start(self, told: Told) -> None:
        """Begin a run, or take it up again."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int | None) -> None:
        """Metrics after an optimizer step; None for figures of the run as a whole."""

    @abstractmethod
    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags, keys and digests among them."""

    @abstractmethod
    def keep(self, file: Path) -> None:
        """Keep a copy of a file."""

    @abstractmethod
    def end(self, status: str) -> None:
        """End the run: ``finished``, ``failed`` or ``interrupted``."""

    def run_started(self, *, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        """Start a run, or the sweep whose folder it is."""
        if (folder / PLAN).exists():
            self.start(of_sweep(folder, SweepPlan.read(folder)))
        else:
            self.start(of_run(name, folder, config))

    def stage_ended(self, *, stage: str, folder: Path, seconds: float, reused: bool) -> None:
        """Tag a stage's key, and whether it was reused; log its time."""
        self.tag({f"key.{stage}": folder.name, f"reused.{stage}": str(reused).lower()})
        self.log({f"seconds/{stage}": seconds}, None)

    def metrics(self, record: Record) -> None:
        """Log a record of the training by optimizer step."""
        step = record.get("update")
        figures = {name: value for name, value in record.items() if name not in ("kind", "update")}
        self.log(
            {f"{record['kind']}/{name}": value for name, value in figures.items() if _is_number(value)},
            record["iter"] if step is None else step,
        )

    def run_ended(self, *, status: str, folder: Path) -> None:
        """Log scores with their intervals, tag their digests, keep the report."""
        if (folder / PLAN).exists():
            self._sweep_ended(folder)
        elif status == "finished":
            self._finished(Run(folder))
        if (folder / STATUS).exists() and (error := Run(folder).status.error):
            self.tag({"error": error.partition("\n")[0][:500]})
        for name in _KEPT:
            if (folder / name).is_file():
                self.keep(folder / name)
        self.end(status)

    def _finished(self, run: Run) -> None:
        results = run.results
        self.log({**dict(figures(results)), "responses/missing": results.missing.count}, None)
        tags = digests(results) | {"verdict": results.verdict.summary}
        if results.ship is not None:
            tags["ship"] = results.ship.decision
        for target, other in results.targets.items():
            self.log(dict(figures(other, f"{target}.")), None)
            tags |= digests(other, f"{target}.")
        self.tag({name: value for name, value in tags.items() if value})

    def _sweep_ended(self, folder: Path) -> None:
        if not (folder / FACTS).exists():
            return
        facts = files.read(folder / FACTS, SweepFacts)
        ended = Counter(job.status for job in facts.jobs)
        self.log({f"jobs/{status}": count for status, count in ended.items()}, None)
        self.tag({"digest": facts.digest} | ({"verdict": facts.outcome.verdict} if facts.outcome else {}))


def of_run(name: str, folder: Path, config: Mapping[str, Any]) -> Told:
    """A run by its folder, or a job of a sweep."""
    made = Run(folder).provenance
    identity: list[object] = [folder.name, made.started, made.config_sha256]
    sweep = folder.parent.parent
    parent = group = None
    label = f"{name}/{folder.name}"
    if folder.parent.name == "jobs" and (sweep / PLAN).exists():
        plan = SweepPlan.read(sweep)
        parent, group = id_of_sweep(sweep, plan), _name(sweep, plan)
        identity = [parent, folder.name]  # a job that is run again is the same one
        if (job := plan.by_folder.get(folder.name)) is not None:
            label = f"{job.number:03d} {plan.label(job)}"
    tags = {"config_sha256": made.config_sha256, "punie": made.packages.get("punie")}
    if made.git is not None:
        tags["git"] = f"{made.git.commit}{' (dirty)' if made.git.dirty else ''}"
    if made.machine is not None:
        tags["device"] = made.machine.device
    return Told(
        id=_id(identity),
        name=label,
        folder=folder,
        parameters=dict(flat(config)),
        tags={key: value for key, value in tags.items() if value},
        parent=parent,
        group=group,
    )


def of_sweep(folder: Path, plan: SweepPlan) -> Told:
    """A sweep, the parent of its jobs."""
    return Told(
        id=id_of_sweep(folder, plan),
        name=_name(folder, plan),
        folder=folder,
        parameters={"arguments": json.dumps(plan.arguments), "jobs": len(plan.jobs)},
        tags={"punie": plan.punie, "axes": ", ".join(plan.axes)},
    )


def id_of_sweep(folder: Path, plan: SweepPlan) -> str:
    """The id of a sweep, by which its jobs name their parent."""
    return _id([plan.run_id or folder.name, plan.created])


def _id(identity: list[object]) -> str:
    return digest("tracked", identity)[:_ID]


def _name(folder: Path, plan: SweepPlan) -> str:
    return f"{plan.name}/{folder.name}"


def flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping by dotted name; lists, and empty mappings, as JSON."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from flat(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, json.dumps(node) if isinstance(node, (list, Mapping)) else node


def figures(found: Evaluation, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every score and rate of an evaluation with its interval, and the format lock at the run's sampling."""
    for name, score in found.scores.items():
        for category, estimate in {"overall": score.overall, **score.categories}.items():
            yield from _with_interval(f"{prefix}{name}/{category}", estimate)
    for name, estimate in {"tool_call_block": found.wrapper_rate, **found.rates}.items():
        yield from _with_interval(f"{prefix}rate/{name}", estimate)
    if found.lock is not None:
        yield f"{prefix}format_lock/exact", found.lock.at.strict
        low, high = found.lock.at.sampled.interval
        yield f"{prefix}format_lock/sampled", found.lock.at.sampled.rate
        yield f"{prefix}format_lock/sampled.low", low
        yield f"{prefix}format_lock/sampled.high", high


def _with_interval(name: str, estimate: Estimate) -> Iterator[tuple[str, float]]:
    low, high = estimate.interval or (None, None)
    found = {"": estimate.mean, ".stderr": estimate.stderr, ".low": low, ".high": high}
    for part, value in found.items():
        if value is not None:
            yield f"{name}{part}", value


def digests(found: Evaluation, prefix: str = "") -> dict[str, str]:
    """The digests of all that an evaluation's scores are bound to, and of its responses."""
    identity = found.identity
    tags = {
        "target": found.target,
        "weights": identity.weights.whole or "",
        "model": identity.model,
        "tokenizer": identity.tokenizer,
        "chat_template": identity.chat_template,
        "suite": identity.suite.sha256,
        "prompts": identity.prompts,
        "responses": found.answers,
        "unverified": identity.unverified or "",
    }
    return {f"{prefix}{name}": value for name, value in tags.items() if value}


def run_again(folder: Path) -> Iterator[Message]:
    """What a run told while it ran, from its files."""
    run = Run(folder)
    yield "run_started", {"name": run.config.name, "folder": folder, "config": run.config.values}
    trained = folder / METRICS
    for stage in run.status.stages:
        made = run.store / stage.stage.partition(":")[0] / stage.key
        if stage.stage == "train" and not trained.exists():  # of a run that failed after it
            trained = made / METRICS
        ended = {"stage": stage.stage, "folder": made, "seconds": stage.seconds, "reused": stage.reused}
        yield "stage_ended", ended
    for metric in files.read_metrics(trained):
        yield "metrics", {"record": metric.model_dump(exclude_none=True)}
    yield "run_ended", {"status": run.status.status, "folder": folder}


def sweep_again(folder: Path) -> Iterator[Message]:
    """What a sweep told of itself, from its files; not what its jobs told."""
    yield "run_started", {"name": folder.name, "folder": folder, "config": {}}
    yield "run_ended", {"status": Run(folder).status.status, "folder": folder}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
