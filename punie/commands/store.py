"""The artifact store: what is in it, whether it is whole, and what can go.

punie store ls                     every artifact, by stage, newest first
punie store verify                 read every byte and compare the digests
punie store gc                     what would be deleted; --delete does it

gc takes artifacts of which no run's record speaks any more, beside the store or below outputs/. They have to
be 30 days old (--older-than); or, with --max-size, the oldest ones go until the store is small enough.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tabulate import tabulate

from punie.commands.overrides import path_of
from punie.store.artifacts import Artifact, Store
from punie.store.keys import SHORT
from punie.store.leases import drop
from punie.store.references import mentioned, reachable
from punie.util.errors import StoreError

AGE = 30.0
"""Days."""
DAY = 86400.0
"""Seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    age = f"gc: age in days (default: {AGE:g}, and 0 with --max-size)"
    size = "gc: the oldest, until the store is no larger than this"
    runs = "gc: where runs and sweeps are (default: beside the store, and outputs); may be given again"
    referenced = "gc: also what runs speak of; their answers stay with them"
    parser.add_argument("action", choices=("ls", "verify", "gc"))
    parser.add_argument("--dir", default="outputs/store", help="folder of the store (default: %(default)s)")
    parser.add_argument("--stage", help="only this stage")
    parser.add_argument("--older-than", type=float, metavar="DAYS", help=age)
    parser.add_argument("--max-size", type=float, metavar="GB", help=size)
    parser.add_argument("--runs", type=path_of, action="append", metavar="DIR", help=runs)
    parser.add_argument("--referenced", action="store_true", help=referenced)
    parser.add_argument("--delete", action="store_true", help="gc: really delete")


def run(arguments: argparse.Namespace) -> int:
    """Do the action; verify returns 1 if something is damaged."""
    store = Store(path_of(arguments.dir))
    if not store.root.is_dir():
        where = f"{store.root.absolute()}: there is no such folder"
        print(f"no store in {where}; another: --dir DIR; a new one: python -m punie")
        return 0 if arguments.action == "ls" else 1
    return {"ls": _ls, "verify": _verify, "gc": _gc}[arguments.action](store, arguments)


def _ls(store: Store, arguments: argparse.Namespace) -> int:
    artifacts = list(store.artifacts(arguments.stage))
    print(_table(artifacts) if artifacts else f"nothing in {store.root}; next: python -m punie")
    if artifacts:
        print(f"\n{len(artifacts)} artifacts, {sum(a.size for a in artifacts) / 1e6:.1f} MB in {store.root}")
    return 0


def _verify(store: Store, arguments: argparse.Namespace) -> int:
    unreadable = dict.fromkeys(store.unreadable(arguments.stage), "its manifest cannot be read")
    artifacts = list(store.artifacts(arguments.stage))
    found = unreadable | {artifact.path: artifact.damage(digests=True) for artifact in artifacts}
    damaged = 0
    for path, damage in found.items():
        if damage and (where := store.set_aside(path)):  # else it was removed meanwhile
            damaged += 1
            print(f"{path.parent.name}/{path.name[:SHORT]}: {damage}", file=sys.stderr)
            print(f"  set aside as {where}; the next run rebuilds it", file=sys.stderr)
    print(f"{len(found)} artifacts, {damaged} damaged")
    return 1 if damaged else 0


def _gc(store: Store, arguments: argparse.Namespace) -> int:
    default = AGE if arguments.max_size is None else 0.0
    age = DAY * (default if arguments.older_than is None else arguments.older_than)
    found, usual = list(store.artifacts()), Path("outputs").absolute()
    places = arguments.runs or [*dict.fromkeys([store.root.parent, *([usual] if usual.is_dir() else [])])]

    def in_use(artifacts: Iterable[Artifact]) -> set[str]:
        return set() if arguments.referenced else _in_use(places, artifacts)

    kept = in_use(found)
    old = _chosen(found, kept, arguments.stage, age, arguments.max_size)
    if old:
        print(_table(old) + "\n")
    if not arguments.referenced:
        spared, where = sum(artifact.key in kept for artifact in found), ", ".join(map(str, places))
        print(f"{spared} of {len(found)} artifacts are kept for the runs below {where} (--referenced: not)")
    if not arguments.delete:
        leftovers = store.leftovers(age, arguments.stage)
        what = _amount(old, leftovers)
        print(f"would delete {what}" + ("; next: punie store gc ... --delete" if old or leftovers else ""))
        return 0
    dropped = drop(store, old, lambda: in_use(store.artifacts()))
    print(f"deleted {_amount(dropped, store.sweep(age, arguments.stage))}")
    if len(dropped) < len(old):
        print(f"kept {len(old) - len(dropped)} that a run is using by now")
    return 0


def _in_use(places: list[Path], artifacts: Iterable[Artifact]) -> set[str]:
    """Keys of which the runs in these places speak, and of what those were made from."""
    keys: set[str] = set()
    for place in places:
        try:
            keys |= mentioned(place)
        except OSError as error:
            raise StoreError(
                "What runs use cannot be told, so nothing is deleted.",
                where=error.filename or place,
                found=error.strerror,
                expected="the folder of runs and sweeps, readable",
                next_step="punie store gc --runs DIR",
            ) from error
    return reachable(artifacts, keys)


def _chosen(
    artifacts: list[Artifact], kept: set[str], stage: str | None, age: float, max_size: float | None
) -> list[Artifact]:
    """What can go, the oldest first: as much as it takes to be no larger than max_size, in GB, or all."""
    now, chosen = datetime.now(UTC), []
    excess = math.inf if max_size is None else sum(each.size for each in artifacts) - max_size * 1e9
    for artifact in sorted(artifacts, key=lambda each: each.manifest["created"]):
        aged = (now - datetime.fromisoformat(artifact.manifest["created"])).total_seconds() >= age
        if aged and excess > 0 and artifact.key not in kept and stage in (None, artifact.stage):
            chosen.append(artifact)
            excess -= artifact.size
    return chosen


def _amount(artifacts: list[Artifact], leftovers: list[Path]) -> str:
    size = sum(artifact.size for artifact in artifacts)
    return f"{len(artifacts)} artifacts ({size / 1e6:.1f} MB) and {len(leftovers)} leftover folders"


def _table(artifacts: list[Artifact]) -> str:
    rows = [
        [a.stage, a.key[:SHORT], a.manifest["created"][:19], a.size / 1e6, a.manifest["seconds"]]
        for a in artifacts
    ]
    headers = ["stage", "key", "created (UTC)", "MB", "seconds"]
    return tabulate(rows, headers, tablefmt="simple", floatfmt=".1f", disable_numparse=[0, 1, 2])
