"""Show a finished run: its scores, the sampling parameters in force, and the digests of what gave them.

punie show outputs/runs/NAME/ID
punie show outputs/runs/NAME/ID --json | jq .identity.weights.whole
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from punie.commands.overrides import path_of
from punie.results.run import SURROUNDINGS, Run
from punie.util.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=path_of, metavar="RUN", help="a finished run's directory")
    parser.add_argument("--tensors", action="store_true", help="also the digest of every tensor")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Print what the run left on record."""
    source = Run(arguments.run).require_finished()
    print(_json(source, arguments.tensors) if arguments.json else _text(source, arguments.tensors))
    return 0


def _json(source: Run, tensors: bool) -> str:
    """results.json without its bulk, and the run's name, status and provenance."""
    results, phase = source.results, source.config.phase
    bulk = {} if tensors else {"weights": {"tensors"}}
    about = {
        "run": str(source.folder),
        "name": source.config.name,
        "phase": phase.id if phase else None,
        "model": source.config.value("model.name"),
        **source.status.model_dump(include={"status", "started", "ended"}),
        **results.model_dump(mode="json", exclude={"version", "answers", "identity", "targets", "artifacts"}),
        "identity": results.identity.model_dump(exclude=bulk),
        "targets": {name: each.identity.model_dump(exclude=bulk) for name, each in results.targets.items()},
        "artifacts": {name: artifact.key for name, artifact in results.artifacts.items()},
        "provenance": source.provenance.model_dump(mode="json", include=SURROUNDINGS),
    }
    return json.dumps(about, indent=1)  # ASCII: control characters are escaped


def _text(source: Run, tensors: bool) -> str:
    """The same for a terminal."""
    from punie.results.pages.tables import digests, terminal

    results, status, phase = source.results, source.status, source.config.phase
    provenance, machine, git = source.provenance, source.provenance.machine, source.provenance.git
    facts = {
        "run": source.folder,
        "name": source.config.name,
        "phase": phase.id if phase else None,
        "status": f"{status.status}, {status.started} to {status.ended}",
        "model": f"{source.config.value('model.name')}, {results.target}, by {results.generation.backend}",
    }
    surroundings = {
        **provenance.packages,
        "python": provenance.python,
        "device": f"{machine.device}, {machine.chip}, {machine.system}" if machine else None,
        "BLAS": provenance.blas,
        **({"commit": f"{git.commit}{', with changes' if git.dirty else ''}"} if git else {}),
        **provenance.environment,
    }
    parts = [_rows(facts), terminal(results, phase.baseline if phase else None)]
    parts.append("sampling\n" + _rows(results.sampling.model_dump()))
    for name, each in {results.target: results, **results.targets}.items():
        doubt = {"unverified": each.identity.unverified} if each.identity.unverified else {}
        rows = doubt | digests(each.identity, tensors=tensors)
        parts.append(f"identity of {printable(name)}\n" + _rows(rows))
    parts.append("artifacts\n" + _rows({name: each.key for name, each in results.artifacts.items()}))
    return "\n\n".join([*parts, "provenance\n" + _rows(surroundings)])


def _rows(values: Mapping[str, Any]) -> str:
    def plain(value: Any) -> str:
        if isinstance(value, list):
            value = ", ".join(map(str, value)) or None
        return "none" if value is None else printable(str(value))

    rows = [[f"  {printable(name)}", plain(value)] for name, value in values.items()]
    return tabulate(rows, tablefmt="plain", disable_numparse=True, preserve_whitespace=True)
