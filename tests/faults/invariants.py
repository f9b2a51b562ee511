"""The invariants that are checked after every fault."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from punie.util.locks import locked
from tests.conftest import read_json
from tests.faults.world import Place, World

TIMED = {"train.jsonl", "trained.json", "samples.jsonl", "results.json", "report.md", "report.html"}
"""Files that contain times, so that two builds of one key differ in them."""


def violations(place: Place, world: World, *, finished: Collection[str] = ()) -> list[str]:
    """The violations in a place, each beginning with ``lost``, ``wrong``, ``left over`` or ``locked``.

    Args:
        place: Where something was broken.
        world: The undisturbed runs.
        finished: The stages that must be in the store, since the command was given again and succeeded.
    """
    found = [*_artifacts(place, world, finished), *_runs(place), *_locks(place)]
    if finished:
        found += _left_over(place)
    return found


def _artifacts(place: Place, world: World, finished: Collection[str]) -> Iterator[str]:
    """The store verifies, and each artifact has the digests of the undisturbed run."""
    store = place.store
    for path in store.unreadable():
        yield f"wrong: {path} cannot be read"
    for artifact in store.artifacts():
        if damage := artifact.damage(digests=True):
            yield f"wrong: {artifact.path}: {damage}"
    for stage, entry in world.artifacts.items():
        if stage == "answers":
            continue
        artifact = store.find(stage, entry["key"])
        if artifact is None:
            if stage in finished:
                yield f"lost: {stage}"
            continue
        files = {name: each["sha256"] for name, each in artifact.manifest["files"].items()}
        if files.keys() != entry["files"].keys():
            yield f"wrong: {stage} has other files: {sorted(files.keys() ^ entry['files'].keys())}"
        for name, sha in entry["files"].items():
            if Path(name).name not in TIMED and files.get(name, sha) != sha:
                yield f"wrong: {stage}/{name} has another digest"
        for name in TIMED & files.keys():
            if name.endswith(".jsonl") and not _is_jsonl(artifact.path / name):
                yield f"wrong: {stage}/{name} is not JSON Lines"
        found = stage == "evaluate" and read_json(artifact.path / "results.json")["answers"]
        if found and found != world.artifacts["answers"]:
            yield "wrong: other answers"


def _is_jsonl(path: Path) -> bool:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] != []
    except ValueError:
        return False


def _runs(place: Place) -> Iterator[str]:
    """A run with status finished has its artifacts and documents."""
    jobs = [path.parent for path in place.cwd.glob("outputs/sweeps/*/*/jobs/*/status.json")]
    for run in [*place.runs(), *jobs]:
        if read_json(run / "status.json")["status"] != "finished":
            continue
        for step in read_json(run / "status.json")["stages"]:
            if place.store.find(step["stage"].partition(":")[0], step["key"]) is None:
                yield f"wrong: {run} finished without its {step['stage']}"
        for name in ("results.json", "report.md", "report.html", "samples.jsonl"):
            if not (run / name).is_file():
                yield f"wrong: {run} finished without {name}"


def _locks(place: Place) -> Iterator[str]:
    """Every lock is free, since no process is left."""
    for path in [*place.store.root.glob(".locks/*.lock"), *place.cwd.glob("outputs/sweeps/**/.lock")]:
        try:
            with locked(path, wait=False):
                pass
        except BlockingIOError:
            yield f"locked: {path}"


def _left_over(place: Place) -> Iterator[str]:
    """No temporary folder or file is left in the store or in a finished run."""
    store = place.store.root
    for part in (".building/*", ".removed/*", "*/.building/*", "*/.removed/*", "*/.probe"):
        yield from (f"left over: {path}" for path in store.glob(part))
    finished = [place.cwd / "outputs" / "store", *place.sweeps(), *place.runs("finished")]
    for path in (path for folder in finished for path in folder.rglob(".*.*")):
        if path.is_file() and path.parent.name not in (".locks", ".hydra"):
            yield f"left over: {path}"
