"""Fill in a registered document from a run: verdict, scores against the baseline, prompts, training.

punie record outputs/runs/NAME/ID                   into the document of its phase and config
punie record outputs/runs/NAME/ID docs/research/... into this one
punie record outputs/sweeps/NAME/ID                 a sweep: its outcome, and each finished job

The document says what is not as it was registered. The summary, and runs recorded before, are kept; recording
again changes nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from punie.commands.overrides import path_of
from punie.commands.prereg import FOLDER
from punie.results.run import CONFIG, RESULTS, Run, unfinished
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.config.decisions import PhaseConfig
    from punie.sweep.plan import SweepPlan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=path_of, metavar="RUN", help="a finished run's directory, or a sweep's")
    words = "default: that of the run's phase and config"
    parser.add_argument("document", type=path_of, nargs="?", metavar="DOCUMENT", help=words)
    words = "folder of the documents (default: %(default)s)"
    parser.add_argument("--out", type=path_of, default=FOLDER, metavar="DIR", help=words)


def run(arguments: argparse.Namespace) -> int:
    """Write the runs into their document; 1 if there is none for them."""
    from punie.results.registration import part_id, read, run_part, sweep_part
    from punie.stages import deciding_fields as fields
    from punie.util.files import write_text

    runs, plan = _runs(arguments.run)
    configs = [each.config.typed(each.folder / CONFIG) for each in runs]
    jobs = [fields(job.typed()) for job in plan.jobs] if plan else [fields(each) for each in configs]
    document = read(
        arguments.document
        or _find(arguments.out, plan.name if plan else configs[0].name, jobs, configs[0].phase)
    )
    registered = document.registration.phase.id
    for each, config in zip(runs, configs, strict=True):
        if config.phase is None or config.phase.id != registered:
            raise PunieError(
                "The document is about another phase.",
                where=document.path,
                found=f"phase {registered}",
                expected=f"phase {config.phase.id}, which is the run's" if config.phase else "no phase",
                next_step=f"register the phase of {each.folder} and run it: punie prereg +phase=NAME",
            )
    held = [
        run_part(each, document, {**fields(config), **each.provenance.inputs})
        for each, config in zip(runs, configs, strict=True)
    ]
    notes, parts = [each.in_words() for each in held], {each.id: each.text for each in held}
    if plan is not None:
        name = part_id(arguments.run)
        parts = {name: sweep_part(arguments.run, document, plan, jobs, held)} | parts
        notes.insert(0, f"{name}: {len(runs)} of {len(plan.jobs)} jobs have finished")
    text = document.with_parts(parts)
    if text != document.text:
        write_text(document.path, text)
    notes.append(f"{document.path}: {'written' if text != document.text else 'unchanged'}")
    print("\n".join([*notes, "next: write its summary, and commit it"]))
    return 0


def _runs(folder: Path) -> tuple[list[Run], SweepPlan | None]:
    """The run; or the finished jobs of a sweep, and its plan.

    Raises:
        PunieError: Nothing there has finished.
    """
    if (folder / RESULTS).exists() or not (folder / "jobs").is_dir():
        run = Run(folder).require_finished()
        if run.status.status != "finished":
            raise unfinished(folder, f"its status is {run.status.status}: {run.status.error}")
        return [run], None
    from punie.results.sweep import SweepPlan

    plan = SweepPlan.read(folder)
    jobs = [Run(folder / job.folder) for job in plan.jobs]
    runs = [job.require_finished() for job in jobs if job.status.status == "finished"]
    if not runs:
        raise unfinished(folder, "no job of this sweep has finished")
    return runs, plan


def _find(folder: Path, name: str, jobs: list[dict[str, object]], phase: PhaseConfig | None) -> Path:
    """The document of this config, or else the only one of this phase.

    Raises:
        PunieError: There is none, or more than one.
    """
    from punie.results.registration import document_path, read

    exact = document_path(folder, name, jobs)
    if exact.exists():
        return exact
    records = [path for path in sorted(folder.glob("*.md")) if path.with_suffix(".json").exists()]
    found = [path for path in records if phase and read(path).registration.phase.id == phase.id]
    if len(found) == 1:
        return found[0]
    what, remedy = "The run was not registered.", "punie prereg before the run, or --out DIR"
    if found:
        what = "None of several documents is of the run's config."
        remedy = "name one: punie record RUN DOCUMENT"
    shown = ", ".join(path.name for path in found) or f"no document {exact.name}"
    raise PunieError(what, where=folder, found=shown, next_step=remedy)
