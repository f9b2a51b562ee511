"""The artifact store: what is in it, whether it is whole, and what can go.

punie store ls                     every artifact, newest first
punie store verify                 read every byte and compare the digests
punie store gc --older-than 30     what would be deleted; --delete does it
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from tabulate import tabulate

from punie.store.artifacts import Artifact, Store
from punie.store.keys import SHORT
from punie.store.leases import drop


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("action", choices=("ls", "verify", "gc"))
    parser.add_argument("--dir", default="outputs/store", help="folder of the store (default: %(default)s)")
    parser.add_argument("--stage", help="only this stage")
    parser.add_argument(
        "--older-than",
        type=float,
        default=30.0,
        metavar="DAYS",
        help="gc: age in days (default: %(default)g)",
    )
    parser.add_argument("--delete", action="store_true", help="gc: really delete")


def run(arguments: argparse.Namespace) -> int:
    """Do the action; verify returns 1 if something is damaged."""
    store = Store(Path(arguments.dir))
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
    now, age = datetime.now(UTC), arguments.older_than * 86400
    old = [
        artifact
        for artifact in store.artifacts(arguments.stage)
        if (now - datetime.fromisoformat(artifact.manifest["created"])).total_seconds() >= age
    ]
    if old:
        print(_table(old) + "\n")
    if not arguments.delete:
        leftovers = store.leftovers(age, arguments.stage)
        what = _amount(old, leftovers)
        print(f"would delete {what}" + ("; next: punie store gc ... --delete" if old or leftovers else ""))
        return 0
    dropped = [artifact for artifact in old if drop(store, artifact)]
    print(f"deleted {_amount(dropped, store.sweep(age, arguments.stage))}")
    if len(dropped) < len(old):
        print(f"kept {len(old) - len(dropped)} that a run is using")
    return 0


def _amount(artifacts: list[Artifact], leftovers: list[Path]) -> str:
    size = sum(artifact.size for artifact in artifacts)
    return f"{len(artifacts)} artifacts ({size / 1e6:.1f} MB) and {len(leftovers)} leftover folders"


def _table(artifacts: list[Artifact]) -> str:
    rows = [
        [
            a.stage,
            a.key[:SHORT],
            a.manifest["created"].removesuffix("+00:00"),
            f"{a.size / 1e6:.1f}",
            f"{a.manifest['seconds']:.1f}",
        ]
        for a in artifacts
    ]
    return tabulate(
        rows,
        ["stage", "key", "created (UTC)", "MB", "seconds"],
        tablefmt="simple",
        disable_numparse=True,
        colalign=["left", "left", "left", "right", "right"],
    )
