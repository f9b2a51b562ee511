"""Fill in a registered document from a run: verdict, scores against the baseline, prompts, training.

punie record outputs/runs/NAME/ID                   into the document of its phase and config
punie record outputs/runs/NAME/ID docs/research/... into this one
punie record outputs/sweeps/NAME/ID                 a sweep: its outcome, and each finished job

What people wrote stays as it is, and so do the runs recorded before; recording again changes nothing. The
document says what is not as it was registered.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from punie.commands.prereg import FOLDER
from punie.results import finished
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.config.schema import Config
    from punie.results.recorded import Recorded
    from punie.results.registration import Changed, Document, Ran
    from punie.sweep.plan import SweepPlan

_BUILT = re.compile(r"built (?P<day>[\d-]{10}) (?P<time>[\d:]{8})")


@dataclass(frozen=True)
class _Run:
    """A run, and what of it is compared with the registration."""

    folder: Path
    recorded: Recorded
    ran: Ran


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory, or a sweep's")
    parser.add_argument(
        "document",
        type=Path,
        nargs="?",
        metavar="DOCUMENT",
        help="default: that of the run's phase and config",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="folder of the documents (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the runs into their document; 1 if there is none for them."""
    from punie.results.registration import changes, parse, read
    from punie.util.files import write_text

    folders, notes, sweep = _folders(arguments.run)
    runs = [_read(folder) for folder in folders]
    document = read(arguments.document) if arguments.document else _find(arguments.out, runs[0])
    before = document.text
    parts: dict[str, str] = {}
    for each in runs:
        _require_phase(document, each)
    if sweep is not None:
        name, part = _sweep_section(document, sweep, arguments.run, runs)
        parts[name] = part
        notes.append(f"{name}: {len(runs)} of {len(sweep.jobs)} jobs have finished")
    for each in runs:
        changed = changes(document.registration, each.ran)
        parts[each.recorded.id] = _section(document, each, changed)
        notes.append(f"{each.recorded.id}: {_words(document, each, changed)}")
    for name, part in parts.items():
        document = parse(document.with_run(name, part), document.path)  # what cannot be read is not written
    if document.text != before:
        write_text(document.path, document.text)
    state = "written" if document.text != before else "it says all this already"
    print("\n".join([*notes, f"{document.path}: {state}"]))
    print("next: write its summary, and commit it")
    return 0


def _folders(folder: Path) -> tuple[list[Path], list[str], SweepPlan | None]:
    """The run's directory; or those of a sweep's finished jobs, words about the others, and its plan."""
    if (folder / "results.json").exists() or not (folder / "jobs").is_dir():
        return [folder], [], None
    from punie.sweep.plan import read

    plan = read(folder)
    jobs = [folder / job.folder for job in plan.jobs]
    done = [job for job in jobs if (job / "results.json").exists()]
    if not done:
        raise finished.unfinished(folder, "no job of this sweep has finished")
    return done, [f"{job.name}: not recorded, it has not finished" for job in jobs if job not in done], plan


def _words(document: Document, run: _Run, changed: list[Changed]) -> str:
    """What the document says under "Not as registered", in a line."""
    found = [change.key for change in changed]
    found += ["answered before the registration"] * run.recorded.before(document)
    found += ["the document was edited"] * bool(document.edited)
    return f"not as registered: {', '.join(found)}" if found else "as registered"


def _section(document: Document, run: _Run, changed: list[Changed]) -> str:
    from jinja2 import TemplateError

    from punie.results.recorded import section

    unknown = sorted(document.registration.inputs.keys() ^ run.ran.inputs.keys())
    try:
        return section(document, run.recorded, changed, unknown)
    except (LookupError, TypeError, ValueError, AttributeError, TemplateError) as error:
        raise finished.unfinished(run.folder, f"its files have another shape: {error}") from error


def _sweep_section(document: Document, plan: SweepPlan, folder: Path, runs: list[_Run]) -> tuple[str, str]:
    """Id and text of the part about the sweep as a whole."""
    from punie.sweep.recorded import section

    name = quote(folder.resolve().name)
    with finished.as_written(folder, "plan.json or a job's results.json"):
        ran = {
            run.folder.name: (
                run.ran,
                run.recorded.results,
                not (document.edited or run.recorded.before(document)),
            )
            for run in runs
        }
        return name, section(document, plan, folder, name, ran)


def _read(folder: Path) -> _Run:
    """A finished run.

    Raises:
        PunieError: It has not finished, or its files are not those of a run of this version.
    """
    import dataclasses

    from punie.results.reading import read_records
    from punie.results.recorded import Recorded
    from punie.results.registration import Ran
    from punie.stages.registered import fields

    source = finished.read(folder)
    status, results, config = source.status, source.results, source.config
    if status.get("status") != "finished":
        error = status.get("error") or "no error"
        raise finished.unfinished(folder, f"its status is {status.get('status')}: {error}")
    provenance = finished.read_object(folder, "provenance.json")
    if config.phase is None:
        raise PunieError(
            "The run has no phase, so nothing was registered for it.",
            where=folder,
            next_step="register one, and run it: punie prereg +phase=43a",
        )
    trained = folder / "train.jsonl"
    whole = folder.resolve()
    parts = [whole.parent.parent.name, whole.name] if whole.parent.name == "jobs" else [whole.name]
    try:
        answered, known = _answered(status), _inputs(status, results, config)
    except (LookupError, TypeError, AttributeError) as error:
        raise finished.unfinished(folder, f"status.json or results.json: {error}") from error
    recorded = Recorded(
        id="/".join(map(quote, parts)),
        phase=dataclasses.asdict(config.phase),
        overrides=provenance.get("overrides") or [],
        results=results,
        samples=read_records(folder / "samples.jsonl"),
        metrics=_lines(trained) if trained.exists() else [],
        provenance=provenance,
        answered=answered,
    )
    return _Run(folder, recorded, Ran(recorded.phase, fields(config), known))


def _inputs(status: dict[str, Any], results: dict[str, Any], config: Config) -> dict[str, Any]:
    """Digests of the run's inputs: of those whose artifacts the store still has, and of the suite."""
    from punie.results.difference import CHAIN
    from punie.stages.registered import merged
    from punie.store.artifacts import Store

    store = Store(Path(status.get("store") or config.store.dir))
    keys = {name: entry["key"] for name, entry in results["artifacts"].items()}
    found = [store.find(stage, keys[stage]) for stage in CHAIN if stage in keys]
    contents = [artifact.manifest["material"].get("contents", {}) for artifact in found if artifact]
    return {"suite": results["identity"]["suite"]["sha256"]} | merged(contents)


def _answered(status: dict[str, Any]) -> str:
    """When the answers were generated: a run that found them in the store says so in its reason."""
    for stage in status["stages"]:
        if stage["stage"] == "evaluate" and stage["reused"] and (built := _BUILT.fullmatch(stage["reason"])):
            return f"{built['day']}T{built['time']}+00:00"
    return str(status["started"])


def _find(folder: Path, run: _Run) -> Document:
    """The document of the run's phase that was registered for its config, or the only one of its phase.

    Raises:
        PunieError: There is none, or more than one could be meant.
    """
    from punie.results.registration import changes, read

    documents = []
    for path in sorted(folder.glob("*.md")):
        if b"<!-- punie:content -->" in path.read_bytes():
            document = read(path)
            if document.registration.phase["id"] == run.recorded.phase["id"]:
                documents.append(document)
    exact = [document for document in documents if not changes(document.registration, run.ran)]
    found = exact or documents
    if len(found) != 1:
        phase = run.recorded.phase["id"]
        raise PunieError(
            f"Which document of phase {phase} is meant is not clear."
            if found
            else f"Phase {phase} was not registered.",
            where=folder,
            found=", ".join(document.path.name for document in found) or "no document of this phase",
            next_step="name it: punie record RUN DOCUMENT"
            if found
            else f"punie prereg +phase={phase} before the run; --out DIR names another folder",
        )
    return found[0]


def _require_phase(document: Document, run: _Run) -> None:
    registered, found = document.registration.phase["id"], run.recorded.phase["id"]
    if registered != found:
        raise PunieError(
            "The document is of another phase.",
            where=document.path,
            found=f"phase {registered}",
            expected=f"phase {found}, which is the run's",
        )


def _lines(path: Path) -> list[dict[str, Any]]:
    from punie.util import jsonl

    try:
        lines = list(jsonl.read(path))
    except OSError as error:
        raise finished.unfinished(path.parent, f"{path.name}: {error.strerror}") from None
    if problem := next((line.problem for line in lines if line.problem), None):
        raise problem
    return [line.value for line in lines]
