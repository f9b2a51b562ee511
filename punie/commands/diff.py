"""Compare two runs, sweeps, or configs before they run: what differs, where it begins, which scores changed.

punie diff outputs/runs/NAME/ID outputs/runs/NAME/ID        two runs; a sweep's jobs/NNN, too
punie diff outputs/sweeps/NAME/ID outputs/sweeps/NAME/ID    two sweeps, job by job
punie diff outputs/sweeps/NAME/ID outputs/runs/NAME/ID      the sweep's job with the run's values
punie diff 33b 43a                                          two phases
punie diff outputs/runs/NAME/ID "model=tiny lora.seed=1"    a run and overrides, as for python -m punie
punie diff --config-dir mine 50 43a                         a phase of one's own, in mine/phase

The exit code is 0 if nothing that decides the result differs, 1 if something does, 2 for a wrong A or B.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from punie.commands.overrides import add_flags, given, path_of
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
    add_flags(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
    parser.add_argument("--outputs", action="store_true", help="show both responses to each changed prompt")
    parser.add_argument("--store", type=path_of, metavar="DIR", help="the store (default: each run's own)")


def run(arguments: argparse.Namespace) -> int:
    """Print what differs."""
    try:
        flags = given(arguments, [])
        shown = _compared((arguments.a, arguments.b), flags, arguments.store, arguments.outputs)
    except PunieError as error:
        error.exit_code = _TROUBLE  # 1 says that the two differ
        raise
    if arguments.format == "json":
        print(json.dumps(shown.json(arguments.outputs), indent=1))  # escapes every control character
    else:
        print("\n\n".join(shown.text(arguments.outputs)))
    return 0 if shown.difference.same else 1


def _compared(names: tuple[str, str], flags: list[str], store: Path | None, outputs: bool) -> Shown:
    """Two sweeps; or two runs or configs, for a sweep its job that has the values of the other side."""
    from punie.commands.difference import Shown
    from punie.results.difference import compare, compare_sweeps

    sweeps = [*map(_is_sweep, names)]
    a, b = (_sides(name, flags, store) for name in names)
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


def _sides(name: str, flags: list[str], root: Path | None) -> list[Side]:
    """A run or a config; or the jobs of a sweep, also those that never ran."""
    from punie.results.difference import Side
    from punie.results.sweep import SweepPlan

    folder = Path(name)
    if not _is_sweep(name):
        return [Side.of_run(folder, root) if name and folder.is_dir() else _config(name, flags, root)]
    plan = SweepPlan.read(folder)
    if not plan.jobs:
        raise DataError("The sweep's plan has no jobs.", where=folder)
    return [Side.of_job(plan, job, folder, root) for job in plan.jobs]


def _config(text: str, flags: list[str], root: Path | None) -> Side:
    """What a run with these overrides would be, here and now."""
    from omegaconf import OmegaConf

    from punie.config.command import CommandLine
    from punie.config.compose import composition, phases
    from punie.config.targets import DECIDING
    from punie.results.config import RunConfig
    from punie.results.difference import Side
    from punie.run import pipeline
    from punie.run.capture import capture
    from punie.store.artifacts import Store

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise PunieError("The overrides cannot be split.", where=text, found=str(error)) from None
    known = phases(flags)
    if text in known:
        words = [f"+phase={text}"]
    elif any(word[0] not in "~-" and "=" not in word for word in CommandLine.words(words)):
        raise PunieError(
            "This is neither a run's directory, nor a phase, nor overrides.",
            where=text,
            expected=f"a folder, one of {', '.join(known)}, or for instance 'model=tiny lora.seed=1'",
            next_step='--config-dir DIR, or "hydra.searchpath=[DIR] +phase=NAME", for a phase of your own',
        )
    overrides = [*flags, *words]
    composed, config, *_ = composition(overrides)
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
