"""Compare two runs, sweeps, or configs before they run: what differs, where it begins, which scores changed.

punie diff outputs/runs/NAME/ID outputs/runs/NAME/ID        two runs; a sweep's jobs/NNN, too
punie diff outputs/sweeps/NAME/ID outputs/sweeps/NAME/ID    two sweeps, job by job
punie diff outputs/sweeps/NAME/ID outputs/runs/NAME/ID      the sweep's job with the run's values
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
from typing import TYPE_CHECKING

from punie.util.errors import DataError, PunieError

if TYPE_CHECKING:
    from punie.commands.difference import Shown
    from punie.results.comparison import Comparison
    from punie.results.difference import Side
    from punie.results.records import Sample

_TROUBLE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    words = "a run's or a sweep's directory, a phase, or overrides in quotes"
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), help=words)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
    parser.add_argument("--outputs", action="store_true", help="show both responses to each changed prompt")
    parser.add_argument("--store", type=Path, metavar="DIR", help="the store (default: each run's own)")


def run(arguments: argparse.Namespace) -> int:
    """Print what differs."""
    try:
        shown = _compared((arguments.a, arguments.b), arguments.store, arguments.outputs)
    except PunieError as error:
        error.exit_code = _TROUBLE  # 1 says that the two differ
        raise
    if arguments.format == "json":
        print(json.dumps(shown.json(arguments.outputs), indent=1))  # escapes every control character
    else:
        print("\n\n".join(shown.text(arguments.outputs)))
    return 0 if shown.difference.same else 1


def _compared(names: tuple[str, str], store: Path | None, outputs: bool) -> Shown:
    """Two sweeps; or two runs or configs, for a sweep its job that has the values of the other side."""
    from punie.commands.difference import Shown
    from punie.results.difference import compare, compare_sweeps

    sweeps = [*map(_is_sweep, names)]
    a, b = (_sides(name, store) for name in names)
    if all(sweeps):
        if outputs:
            raise PunieError(
                "The responses of whole sweeps are too many to show side by side.",
                where="--outputs",
                next_step="compare two of their jobs: punie diff A/jobs/... B/jobs/... --outputs",
            )
        difference, matched = compare_sweeps(a, b)
        finished = [pair for pair in matched.pairs if all(_samples(side).exists() for side in pair)]
        scores = _scores(finished) if finished else "no paired jobs both have responses"
        return Shown(names, difference, scores, matched, len(finished))
    one = _job_like(names[0], a, b[0]) if sweeps[0] else a[0]
    other = _job_like(names[1], b, a[0]) if sweeps[1] else b[0]
    return Shown((one.name, other.name), compare((one, other)), _scores([(one, other)]))


def _sides(name: str, root: Path | None) -> list[Side]:
    """A run or a config; or the jobs of a sweep, also those that never ran."""
    from punie.results.difference import Side
    from punie.results.sweep import SweepPlan

    folder = Path(name)
    if not _is_sweep(name):
        return [Side.of_run(folder, root) if name and folder.is_dir() else _config(name, root)]
    plan = SweepPlan.read(folder)
    if not plan.jobs:
        raise DataError("The sweep's plan has no jobs.", where=folder)
    return [Side.of_job(plan, job, folder, root) for job in plan.jobs]


def _config(text: str, root: Path | None) -> Side:
    """What a run with these overrides would be, here and now."""
    from omegaconf import OmegaConf

    from punie.config import resolve
    from punie.config.compose import compose
    from punie.config.targets import DECIDING
    from punie.results.config import RunConfig
    from punie.results.difference import Side
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
    steps = {step.stage.name: step for step in plan.steps if step.stage.name in DECIDING}
    return Side(
        name=text or "the default config",
        config=RunConfig.parse(OmegaConf.to_container(composed, resolve=True), Path(text)),
        provenance=capture(argv=[], overrides=overrides, config_digest=""),
        keys={name: step.key for name, step in steps.items() if step.key is not None},
        materials={name: step.material for name, step in steps.items() if step.material is not None},
    )


def _is_sweep(name: str) -> bool:
    folder = Path(name)
    return bool(name) and (folder / "jobs").is_dir() and not (folder / "config.yaml").exists()


def _job_like(sweep: str, jobs: list[Side], other: Side) -> Side:
    """The job of a sweep that has the same values on its axes as a run or a config.

    Raises:
        PunieError: There is none.
    """
    from punie.results.difference import match
    from punie.results.summary.axes import shown

    matched = match(jobs, [other])
    if matched.pairs:
        return matched.pairs[0][0]
    (_, found), *_ = matched.only[1]
    values = [f"{key}={','.join(map(shown, each))}" for key, each in matched.values[0].items()]
    raise PunieError(
        "The sweep has no job with these values on its axes.",
        where=sweep,
        found=found,
        expected=" ".join(values),
        next_step=f"name a job of it: punie diff {sweep}/jobs/...",
    )


def _scores(pairs: Sequence[tuple[Side, Side]]) -> Comparison | str | None:
    """The responses of all pairs compared, or why they are not; None unless all are runs."""
    sides = [side for pair in pairs for side in pair]
    if not all(Path(side.name).is_dir() for side in sides):
        return None
    if absent := [side.name for side in sides if not _samples(side).exists()]:
        return f"{absent[0]} has no responses"
    from punie.results.comparison import compare  # imports numpy, which presets do not need

    try:
        return compare(*([sample for pair in pairs for sample in _read(pair[end])] for end in (0, 1)))
    except ValueError as error:
        return str(error)


def _samples(side: Side) -> Path:
    return Path(side.name) / "samples.jsonl"


def _read(side: Side) -> Iterator[Sample]:
    """A run's samples without their tokens, of which a sweep has too many to keep."""
    from punie.results.files import read_samples

    for sample in read_samples(_samples(side)):
        bulk = {"tokens": None, "logprobs": None}
        earlier = [turn.model_copy(update=bulk) for turn in sample.earlier]
        yield sample.model_copy(update={**bulk, "earlier": earlier})
