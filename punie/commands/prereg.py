"""Register a phase before it runs: a results document with hypothesis, criteria, and the digests of both.

punie prereg +phase=43a                        writes docs/research/phase43a-<digest of the config>.md
punie prereg -m +phase=46 model=tiny seed=0,1  a sweep: all of its jobs in one document

Several values, or a phase that is a sweep, are a sweep without -m, too. Commit the document, run, then fill
it in: punie record RUN.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.config.schema import Config

FOLDER = Path("docs/research")
"""Where the documents are, unless a user says otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "overrides", nargs="*", help="as for python -m punie: +phase=NAME, GROUP=OPTION, key=value"
    )
    parser.add_argument("-m", "--multirun", action="store_true", help="the sweep over these overrides")
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
    from punie.results.registration import Registration, compose_document
    from punie.run.capture import capture, now
    from punie.stages.inputs import suite_path
    from punie.stages.registered import fields, inputs
    from punie.store.keys import SHORT
    from punie.util.files import write_text

    jobs = _jobs(arguments.overrides, arguments.multirun)
    configs = [each for each, _ in jobs]
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
    swept = ["-m"] if every[1:] or arguments.multirun else []
    command = shlex.join(["python", "-m", "punie", *swept, *arguments.overrides])
    prompts = [(sample.id, sample.category) for sample in load_suite(suite_path(config.eval.suite))]
    places = [place for _, place in jobs] if every[1:] else []
    document = compose_document(registration, command=command, prompts=prompts, places=places, path=path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, document.text)
    print(f"{path}\nnext: commit it, then {command}")
    print(f"then: punie record RUN {shlex.quote(str(path))}")
    return 0


def _jobs(overrides: Sequence[str], multirun: bool) -> list[tuple[Config, Mapping[str, str]]]:
    """The config of the run; or those of a sweep, as it will be planned, each with its place on the axes."""
    from punie.config import resolve
    from punie.config.compose import compose, quote_phases
    from punie.sweep import preview
    from punie.sweep.compose import grid

    if not multirun and len(grid(None, {}, quote_phases(overrides))) == 1:
        config = resolve(compose(overrides))
        if not (config.phase and config.phase.sweep):
            return [(config, {})]
    plan = preview.plan(overrides)
    return [(job.typed(), plan.values(job)) for job in plan.jobs]
