"""Compare two runs, sweeps, or configs before they run: what differs, where it begins, which answers changed.

punie diff outputs/runs/NAME/ID outputs/runs/NAME/ID        two runs; a sweep's jobs/NNN, too
punie diff outputs/sweeps/NAME/ID outputs/sweeps/NAME/ID    two sweeps, job by job
punie diff outputs/sweeps/NAME/ID outputs/runs/NAME/ID      the sweep's job at the run's place
punie diff 33b 43a                                          two phases
punie diff outputs/runs/NAME/ID "model=tiny lora.seed=1"    a run and overrides, as for python -m punie

The exit code is 0 if nothing that decides the result differs, 1 if something does, 2 for a wrong A or B.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.results.finished import as_written, read_object, read_values, unfinished
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.commands import difference
    from punie.results.comparison import Comparison
    from punie.results.difference import Side
    from punie.sweep.plan import Job, SweepPlan

_READ = ("id", "category", "prompt", "missing", "scores", "taxonomy", "output")
"""What of a record is compared; a sweep has too many of them to keep the rest."""
_TROUBLE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    for name in ("a", "b"):
        parser.add_argument(
            name, metavar=name.upper(), help="a run's or a sweep's directory, a phase, or overrides in quotes"
        )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
    parser.add_argument("--outputs", action="store_true", help="show both answers of each changed prompt")
    parser.add_argument("--store", type=Path, metavar="DIR", help="the store (default: each run's own)")


def run(arguments: argparse.Namespace) -> int:
    """Print what differs."""
    from punie.commands import difference
    from punie.results.difference import compare

    names, store, outputs = (arguments.a, arguments.b), arguments.store, arguments.outputs
    try:
        if all(map(_is_sweep, names)):
            shown: difference.Shown = _sweeps(names, store, outputs)
        else:
            a, b = _sides(names, store)
            shown = difference.Runs(a, b, compare(a, b), _scores([(a, b)]))
    except PunieError as error:
        error.exit_code = _TROUBLE  # 1 says that the two differ
        raise
    if arguments.format == "json":
        print(json.dumps(shown.json(outputs), indent=1))  # its escapes leave a terminal nothing to obey
    else:
        print("\n\n".join(shown.text(outputs)))
    return 0 if shown.same else 1


# Reading the two sides.


def _sides(names: Sequence[str], store: Path | None) -> list[Side]:
    """Two sides; in the place of a sweep its job that has the place of the other side."""
    sides = {name: _side(name, store) for name in names if not _is_sweep(name)}
    (other, *_) = sides.values()
    return [sides[name] if name in sides else _job_like(name, other, store) for name in names]


def _side(name: str, store: Path | None) -> Side:
    folder = Path(name)
    if name and folder.is_dir():
        return _run(folder, store)
    return _config(name, store)


def _run(folder: Path, root: Path | None) -> Side:
    """What a run's directory and the store know of it; a run that failed has fewer stages."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from punie.results.difference import Side

    try:
        config = OmegaConf.to_container(read_values(folder), resolve=True)
    except OmegaConfBaseException as error:
        raise unfinished(folder, f"config.yaml: {str(error).partition(chr(10))[0]}") from None
    return _with_record(Side(str(folder), config), folder, root)  # ty: ignore[invalid-argument-type]


def _with_record(side: Side, folder: Path, root: Path | None) -> Side:
    """A side with what its run left: keys of its stages, what the store knows of them, its surroundings."""
    from dataclasses import replace

    from punie.results.difference import CHAIN
    from punie.store.artifacts import Store

    status = read_object(folder, "status.json")
    results = read_object(folder, "results.json") if (folder / "results.json").exists() else {}
    with as_written(folder, "status.json or results.json"):
        keys = dict(side.keys) | {row["stage"]: str(row["key"]) for row in status["stages"]}
        named = {stage: dict(entry["files"]) for stage, entry in results.get("artifacts", {}).items()}
        keys |= {stage: str(results["artifacts"][stage]["key"]) for stage in named}  # those not needed, too
        materials = {stage: side.materials[stage] for stage, key in side.keys.items() if keys[stage] == key}
        store = Store(root or Path(status.get("store") or "outputs/store"))
        for stage in keys.keys() & set(CHAIN) - materials.keys():
            if artifact := store.find(stage, keys[stage]):
                materials[stage] = artifact.manifest["material"]
    return replace(
        side,
        provenance=read_object(folder, "provenance.json"),
        keys={stage: keys[stage] for stage in CHAIN if stage in keys},
        materials=materials,
        files=named,
    )


def _config(text: str, root: Path | None) -> Side:
    """What a run with these overrides would be, here and now."""
    from omegaconf import OmegaConf

    from punie.config import resolve
    from punie.config.compose import compose
    from punie.results.difference import CHAIN, Side
    from punie.run import pipeline
    from punie.run.capture import capture
    from punie.store.artifacts import Store
    from punie.util.paths import resource

    try:
        overrides = shlex.split(text)
    except ValueError as error:
        raise PunieError("The overrides cannot be split.", where=text, found=str(error)) from None
    phases = sorted(path.stem for path in (resource("conf") / "phase").glob("*.yaml"))
    if text in phases:
        overrides = [f"+phase={text}"]
    elif not all("=" in override or override.startswith("~") for override in overrides):
        raise PunieError(
            "This is neither a run's directory, nor a phase, nor overrides.",
            where=text,
            expected=f"a folder, one of {', '.join(phases)}, or for instance 'model=tiny lora.seed=1'",
        )
    composed = compose(overrides)
    config = resolve(composed)
    plan = pipeline.plan(config, Store(root or Path(config.store.dir)))
    steps = {step.stage.name: step for step in plan.steps if step.stage.name in CHAIN}
    return Side(
        name=text or "the default config",
        config=OmegaConf.to_container(composed, resolve=True),  # ty: ignore[invalid-argument-type]
        provenance=capture(argv=[], overrides=overrides, config_digest=""),
        keys={name: step.key for name, step in steps.items() if step.key is not None},
        materials={name: step.material for name, step in steps.items() if step.material is not None},
    )


def _scores(pairs: Sequence[tuple[Side, Side]]) -> Comparison | str | None:
    """The answers of all pairs compared, or why they are not; None unless all are runs."""
    if not all(Path(side.name).is_dir() for pair in pairs for side in pair):
        return None
    for side in (side for pair in pairs for side in pair):
        if not _samples(side).exists():
            return f"{side.name} has no answers"
    from punie.results.comparison import compare  # and numpy, which presets do not want

    try:
        return compare(*([row for pair in pairs for row in _answers(pair[end])] for end in (0, 1)))
    except ValueError as error:
        return str(error)


def _samples(side: Side) -> Path:
    return Path(side.name) / "samples.jsonl"


def _answers(side: Side) -> Iterator[dict[str, Any]]:
    from punie.results.reading import read_records

    for record in read_records(_samples(side)):
        yield {name: record.get(name) for name in _READ}


# Reading sweeps.


def _is_sweep(name: str) -> bool:
    folder = Path(name)
    return bool(name) and (folder / "jobs").is_dir() and not (folder / "config.yaml").exists()


def _sweeps(names: Sequence[str], store: Path | None, outputs: bool) -> difference.Sweeps:
    from punie.commands import difference
    from punie.sweep.comparison import compare

    if outputs:
        raise PunieError(
            "The answers of whole sweeps are too many to stand side by side.",
            where="--outputs",
            next_step="compare two of their jobs: punie diff A/jobs/... B/jobs/... --outputs",
        )
    a, b = (_jobs(Path(name), store) for name in names)
    found = compare(a, b)
    finished = [pair for pair in found.matched.pairs if all(_samples(side).exists() for side in pair)]
    scores = _scores(finished) if finished else "no jobs that belong together both have answers"
    return difference.Sweeps((names[0], len(a)), (names[1], len(b)), found, scores, len(finished))


def _jobs(folder: Path, root: Path | None) -> list[Side]:
    """The jobs of a sweep, those that never ran among them: its plan has their configs and keys."""
    from punie.sweep.comparison import match
    from punie.sweep.plan import read

    plan = read(folder)
    if not plan.jobs:
        raise unfinished(folder, "plan.json has no jobs")
    with as_written(folder, "plan.json"):
        jobs = [_job(plan, job, folder, root) for job in plan.jobs]
        match(jobs, jobs)  # whatever a place is made of is there
    return jobs


def _job(plan: SweepPlan, job: Job, folder: Path, root: Path | None) -> Side:
    from punie.results.difference import CHAIN, Side

    keys, materials = {}, {}
    for part in plan.parts_of(job):
        if (
            part.stage in CHAIN and part.material is not None and part.stage not in keys
        ):  # not of other targets
            keys[part.stage], materials[part.stage] = part.key, part.material
    place = folder / job.folder
    side = Side(str(place), job.config, keys=keys, materials=materials)
    began = (place / "config.yaml").exists() and "stages" in read_object(place, "status.json")
    return _with_record(side, place, root) if began else side


def _job_like(sweep: str, other: Side, root: Path | None) -> Side:
    """The job of a sweep that has the same place on its axes as a run or a config.

    Raises:
        PunieError: There is none.
    """
    from punie.results.summary.axes import shown
    from punie.sweep.comparison import match

    matched = match(_jobs(Path(sweep), root), [other])
    if matched.pairs:
        return matched.pairs[0][0]
    (_, place), *_ = matched.only[1]
    values = [f"{key}={','.join(map(shown, each))}" for key, each in matched.values[0].items()]
    raise PunieError(
        "The sweep has no job at the place of what it is compared with.",
        where=sweep,
        found=place,
        expected=" ".join(values),
        next_step=f"name a job of it: punie diff {sweep}/jobs/...",
    )
