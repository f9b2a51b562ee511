"""Show a finished run: its scores, the sampling parameters in force, and the digests of what gave them.

punie show outputs/runs/NAME/ID
punie show outputs/runs/NAME/ID --json | jq .identity.weights.whole
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from punie.results import finished
from punie.results.finished import Finished
from punie.util.printable import printable_value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory")
    parser.add_argument("--tensors", action="store_true", help="also the digest of every tensor")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Print what the run left on record."""
    source = finished.read(arguments.run)
    provenance = finished.read_object(arguments.run, "provenance.json")
    with finished.as_written(arguments.run):
        about = _about(source, provenance, tensors=arguments.tensors)
        # JSON's own escapes leave nothing that a terminal would obey; in text, punie's do.
        shown = json.dumps(about, indent=1) if arguments.json else _words(source, printable_value(about))
    print(shown)
    return 0


def _about(source: Finished, provenance: Mapping[str, Any], *, tensors: bool) -> dict[str, Any]:
    """What is shown, as JSON values: results.json without its bulk, beside the run's own facts."""
    results = source.results
    evaluations = {results["target"]: results, **results.get("targets", {})}
    identities = {name: _identity(each["identity"], tensors) for name, each in evaluations.items()}
    return {
        "run": str(source.folder),
        "name": source.config.name,
        "phase": source.config.phase.id if source.config.phase else None,
        "model": source.config.model.name,
        **{name: source.status.get(name) for name in ("status", "started", "ended")},
        **{
            name: results[name]
            for name in ("target", "scores", "sampling", "generation", "verdict", "lock", "paired")
            if name in results
        },
        "identity": identities.pop(results["target"]),
        "targets": identities,
        "artifacts": {name: artifact["key"] for name, artifact in results["artifacts"].items()},
        "provenance": {
            name: provenance.get(name)
            for name in ("packages", "python", "machine", "blas", "git", "environment")
        },
    }


def _identity(identity: Mapping[str, Any], tensors: bool) -> dict[str, Any]:
    weights = {name: value for name, value in identity["weights"].items() if tensors or name != "tensors"}
    return {**identity, "weights": weights}


def _words(source: Finished, about: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    from punie.results.pages.documents import terminal

    baseline = source.config.phase.baseline if source.config.phase else None
    results = {"paired": [], "targets": {}, **about}
    facts = {
        "run": about["run"],
        "name": about["name"],
        "phase": about["phase"] or "none",
        "status": f"{about['status']}, {about['started']} to {about['ended']}",
        "model": f"{about['model']}, {about['target']}, answering through {about['generation']['backend']}",
    }
    parts = [
        _rows(facts),
        terminal(results, dataclasses.asdict(baseline) if baseline else None),
        "sampling\n" + _rows(about["sampling"]),
    ]
    for target, identity in [(about["target"], about["identity"]), *about["targets"].items()]:
        parts.append(f"identity of {target}\n{_rows(_digests(identity))}")
    parts.append("artifacts\n" + _rows(about["artifacts"]))
    parts.append("provenance\n" + _rows(_surroundings(about["provenance"])))
    return "\n\n".join(parts)


def _digests(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity's digests, by what they are of."""
    weights, suite = identity["weights"], identity["suite"]
    unverified = {"unverified": identity["unverified"]} if identity["unverified"] else {}
    return {
        **unverified,
        "weights, whole": weights["whole"],
        **(weights["files"] or {}),
        "tokenizer": identity["tokenizer"],
        "chat template": identity["chat_template"],
        f"suite {suite['name']}": suite["sha256"],
        "prompts": identity["prompts"],
        **(weights.get("tensors") or {}),
    }


def _surroundings(provenance: Mapping[str, Any]) -> dict[str, Any]:
    machine, git = provenance["machine"], provenance["git"]
    return {
        **(provenance["packages"] or {}),
        "python": provenance["python"],
        "device": f"{machine['device']}, {machine['chip']}, {machine['system']}",
        "BLAS": provenance["blas"],
        **({"commit": git["commit"] + (", with changes" if git["dirty"] else "")} if git else {}),
        **(provenance["environment"] or {}),
    }


def _rows(values: Mapping[str, Any]) -> str:
    rows = [[f"  {name}", _plain(value)] for name, value in values.items()]
    return tabulate(rows, tablefmt="plain", disable_numparse=True, preserve_whitespace=True)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
