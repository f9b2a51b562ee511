"""Register a phase before it runs: a results document with hypothesis and criteria, and a JSON record of it.

punie prereg +phase=43a                        writes docs/research/phase43a-<digest of the config>.{md,json}
punie prereg -m +phase=46 model=tiny seed=0,1  a sweep: all of its jobs in one document

Several values, or a phase that is a sweep, are a sweep without -m, too. Commit both files, so that git has
their date; run; then fill the document in: punie record RUN.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from punie.commands.overrides import add_overrides, given, path_of
from punie.util.errors import PunieError

FOLDER = Path("docs/research")
"""The default folder of the documents."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_overrides(parser, multirun="the sweep over these overrides")
    words = "folder of the document (default: %(default)s)"
    parser.add_argument("--out", type=path_of, default=FOLDER, metavar="DIR", help=words)


def run(arguments: argparse.Namespace) -> int:
    """Write the document and its record; 1 if they are there already."""
    from punie.results import files
    from punie.results.config import phase_record
    from punie.results.registration import Job, Registration, compose, differing, document_path
    from punie.run.capture import git, now
    from punie.stages import deciding_fields, deciding_inputs
    from punie.sweep import preview
    from punie.util.files import write_text

    plan = preview.plan(given(arguments))  # of one job, unless there are several values or axes
    configs = [job.typed() for job in plan.jobs]
    words, phase = shlex.join(given(arguments)) or "no overrides", phase_record(configs[0].phase)
    if phase is None or any(each.phase != configs[0].phase for each in configs):
        raise PunieError(
            "A document is about one phase." if phase else "There is no phase to register.",
            found=words,
            expected="one phase, whose criteria are decided before the run",
            next_step="punie prereg +phase=43a",
        )
    decisive = [deciding_fields(each) for each in configs]
    document = document_path(arguments.out, configs[0].name, decisive)
    record = document.with_suffix(".json")
    if document.exists() or record.exists():
        raise PunieError(
            "This config is registered already; a registration is never overwritten.",
            where=document,
            next_step=f"run it, then: punie record RUN {shlex.quote(str(document))}",
        )
    decided = [{**own, **deciding_inputs(each)} for own, each in zip(decisive, configs, strict=True)]
    swept = ["-m"] if configs[1:] or arguments.multirun else []
    registration = Registration(
        version=Registration.VERSION,
        registered=now(),
        git=git(),
        command=shlex.join(["python", "-m", "punie", *swept, *given(arguments)]),
        phase=phase,
        fields=decided[0],
        jobs=[
            Job(values=", ".join(f"{axis}={value}" for axis, value in plan.values(job).items()), differs=each)
            for job, each in zip(plan.jobs, differing(decided), strict=True)
        ],
    )
    text = compose(registration, document)
    document.parent.mkdir(parents=True, exist_ok=True)
    files.write(record, registration)
    write_text(document, text)
    print(f"{document}\nnext: commit it and {record.name}, then {registration.command}")
    print(f"then: punie record RUN {shlex.quote(str(document))}")
    return 0
