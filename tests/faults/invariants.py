"""What must hold after every fault, whatever it was."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tests.conftest import read_json
from tests.faults.world import Place, World

TIMED = {"train.jsonl", "trained.json", "samples.jsonl", "results.json", "report.md", "report.html"}
"""What holds times, so that its bytes are not those of another build of the same key."""


def violations(place: Place, world: World, *, finished: Collection[str] = ()) -> list[str]:
    """What is wrong in a place, each beginning with ``lost``, ``wrong``, ``left over`` or ``locked``.

    Args:
        place: Where something was broken.
        world: What it is held against.
        finished: The stages that must be there, since the command was given again and went through.
    """
    found = [*_artifacts(place, world, finished), *_runs(place), *_locks(place)]
    if finished:
        found += _left_over(place)
    return found


def _artifacts(place: Place, world: World, finished: Collection[str]) -> Iterator[str]:
    """The store verifies, and what a key names has the undisturbed run's digests."""
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
        yield from (
            f"wrong: {stage}/{name} has another digest"
            for name, sha in entry["files"].items()
            if name in files and Path(name).name not in TIMED and files[name] != sha
        )
        for name in TIMED & files.keys():
            if name.endswith(".jsonl") and not _is_jsonl(artifact.path / name):
                yield f"wrong: {stage}/{name} is not JSON Lines"
        if stage == "evaluate" and read_json(artifact.path / "results.json")["answers"] != answers(world):
            yield "wrong: other answers"


def _is_jsonl(path: Path) -> bool:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] != []
    except ValueError:
        return False


def answers(world: World) -> str:
    """Digest of the undisturbed run's answers."""
    return world.artifacts["answers"]


def _runs(place: Place) -> Iterator[str]:
    """Whoever says that it has finished has its artifacts and its documents."""
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
    """Every lock is free, since nobody is there any more."""
    for path in [*place.store.root.glob(".locks/*.lock"), *place.cwd.glob("outputs/sweeps/**/.lock")]:
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            yield f"locked: {path}"


def _left_over(place: Place) -> Iterator[str]:
    """No temporary folder or file stays behind, in the store or in a folder that was finished."""
    store = place.store.root
    yield from (
        f"left over: {path}" for part in (".building", ".removed") for path in (store / part).glob("*")
    )
    finished = [place.cwd / "outputs" / "store", *place.sweeps(), *place.runs("finished")]
    for folder in finished:
        yield from (f"left over: {path}" for path in folder.rglob(".*.*") if temporary(path))


def temporary(path: Path) -> bool:
    """Whether a file is one that was being written (``punie.util.files``)."""
    return path.is_file() and path.name.startswith(".") and path.parent.name not in (".locks", ".hydra")
