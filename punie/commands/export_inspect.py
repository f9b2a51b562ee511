"""Write a finished run's answers and scores as a log for Inspect, with what the scores belong to.

punie export-inspect outputs/runs/NAME/ID logs/run.eval      then: inspect view --log-dir logs

Inspect comes with the extra: pip install 'punie[inspect]'. It lists .eval files; a .json is for programs.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.results import finished
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from types import ModuleType

_SUFFIXES = (".eval", ".json")
_SAMPLING = ("temperature", "top_p", "top_k", "seed", "max_tokens", "stop", "repeats")
"""What Inspect has a field for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory")
    parser.add_argument("out", type=Path, metavar="OUT", help="the log to write: a new .eval or .json file")


def run(arguments: argparse.Namespace) -> int:
    """Write the log, whole or not at all."""
    from punie.results.reading import read_records

    out: Path = arguments.out
    if out.suffix not in _SUFFIXES:
        expected = " or ".join(_SUFFIXES)
        raise PunieError("A log of Inspect has another ending.", where=out, expected=expected)
    if out.exists():
        raise PunieError("The file is there already.", where=out, next_step="name a new file")
    source = finished.read(arguments.run)
    provenance = finished.read_object(arguments.run, "provenance.json")
    records = read_records(source.samples)
    inspect_log = _inspect_log()
    with finished.as_written(arguments.run):
        header = _header(source, provenance, records)
    try:
        log = inspect_log.build(records, **header)
    except ValueError as error:  # Inspect's classes check the types of what they are given
        raise finished.unfinished(arguments.run, " ".join(str(error).split())) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        inspect_log.write(log, scratch / out.name)
        (scratch / out.name).replace(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    missing = sum(record["missing"] is not None for record in records)
    print(f"{out}  {len(records)} answers" + (f", {missing} of them missing" if missing else ""))
    print(f"next: inspect view --log-dir {out.parent}")
    return 0


def _inspect_log() -> ModuleType:
    """What builds the log; it needs the extra."""
    try:
        from punie.results.pages import inspect_log
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "inspect_ai":
            raise
        raise PunieError(
            "Inspect is not installed here.",
            found="no package inspect_ai",
            expected="the extra punie[inspect]",
            next_step="pip install 'punie[inspect]', best in a virtual environment of its own",
        ) from None
    return inspect_log


def _header(
    source: finished.Finished, provenance: dict[str, Any], records: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything of the log but its samples."""
    results, config = source.results, source.config
    weights = {name: value for name, value in results["identity"]["weights"].items() if name != "tensors"}
    doubts = finished.doubts(source, records)
    identity = {**results["identity"], "weights": weights, "unverified": "; ".join(doubts) or None}
    return {
        "name": config.name,
        "model": f"punie/{config.model.name}/{results['target']}",
        "started": source.status["started"],
        "ended": source.status["ended"],
        "sampling": {name: results["sampling"][name] for name in _SAMPLING},
        "suite": results["identity"]["suite"]["name"],
        "packages": {name: version for name, version in provenance["packages"].items() if version},
        "tags": ["identity: unverified"] if doubts else [],
        "allow_missing": config.eval.allow_missing,
        "metadata": {
            "identity": identity,
            "sampling": results["sampling"],
            "target": results["target"],
            "backend": results["generation"]["backend"],
            "phase": config.phase.id if config.phase else None,
            "verdict": results["verdict"]["summary"],
            "artifacts": {name: artifact["key"] for name, artifact in results["artifacts"].items()},
            "machine": provenance["machine"],
            "blas": provenance["blas"],
        },
    }
