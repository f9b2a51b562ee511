"""Register a phase before it runs: a results document with hypothesis, criteria, and the digests of both.

punie prereg +phase=43a                     writes docs/research/phase43a-<digest of the config>.md
punie prereg +phase=46 model=tiny seed=0,1  a sweep, with the overrides it will be run with

Commit the document, run, then fill it in: punie record RUN.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from punie.errors import PunieError

if TYPE_CHECKING:
    from punie.config.schema import Config

FOLDER = Path("docs/research")
"""Where the documents are, unless a user says otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "overrides", nargs="*", help="as for python -m punie: +phase=NAME, GROUP=OPTION, key=value"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="folder of the document (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the document; 1 if there is one already."""
    from punie.evals.suite import load_suite
    from punie.files import write_text
    from punie.provenance.capture import capture, now
    from punie.reports.registration import Registration, compose_document
    from punie.stages.inputs import suite_path
    from punie.stages.registered import fields, inputs
    from punie.store.keys import SHORT

    configs = _configs(arguments.overrides)
    config = configs[0]
    if config.phase is None:
        raise PunieError(
            "There is no phase to register.",
            found=shlex.join(arguments.overrides) or "no overrides",
            expected="a phase, whose criteria are decided before the run",
            next_step="punie prereg +phase=43a",
        )
    if any(each.phase != config.phase for each in configs):
        raise PunieError(
            "One document is of one phase.",
            found=shlex.join(arguments.overrides),
            next_step="register each phase by itself",
        )
    first, *_ = every = [fields(each) for each in configs]
    registration = Registration(
        registered=now(),
        git=capture(argv=[], overrides=[], config_digest="")["git"],
        phase=dataclasses.asdict(config.phase),
        config=first,
        inputs=inputs(config),
        jobs=[{k: v for k, v in each.items() if first.get(k) != v} for each in every] if every[1:] else [],
    )
    name = f"{config.name.replace('/', '-')}-{registration.digests['config'][:SHORT]}.md"
    path: Path = arguments.out / name
    if path.exists():
        raise PunieError(
            "This config is registered already; what was registered is never overwritten.",
            where=path,
            next_step=f"run it, then: punie record RUN {shlex.quote(str(path))}",
        )
    command = shlex.join(["python", "-m", "punie", *(["-m"] if every[1:] else []), *arguments.overrides])
    prompts = [(sample.id, sample.category) for sample in load_suite(suite_path(config.eval.suite))]
    document = compose_document(registration, command=command, prompts=prompts, path=path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, document.text)
    print(f"{path}\nnext: commit it, then {command}")
    print(f"then: punie record RUN {shlex.quote(str(path))}")
    return 0


def _configs(overrides: Sequence[str]) -> list[Config]:
    """The config of each job: one, or those of the sweep that the phase or the overrides ask for."""
    from punie.config import resolve
    from punie.config.compose import compose, quote_phases
    from punie.config.presets import presets
    from punie.sweeps.compose import grid

    overrides = quote_phases(overrides)
    jobs = grid(None, {}, overrides)
    first = resolve(compose(jobs[0]))
    if first.phase and first.phase.sweep and (preset := presets().get(first.phase.id)):
        given = {override.partition("=")[0].lstrip("+") for override in overrides}
        axes = {key: values for key, values in preset.axes.items() if key not in given}
        jobs = grid(None, axes, overrides)
    return [resolve(compose(job)) for job in jobs]
