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
    damaged = []
    count = 0
    for artifact in store.artifacts(arguments.stage):
        count += 1
        if damage := artifact.damage(digests=True):
            damaged.append((artifact, damage))
            print(f"{artifact.stage}/{artifact.key[:SHORT]}: {damage}", file=sys.stderr)
            where = store.set_aside(artifact)
            print(f"  set aside as {where}; the next run rebuilds it", file=sys.stderr)
    print(f"{count} artifacts, {len(damaged)} damaged")
    return 1 if damaged else 0


def _gc(store: Store, arguments: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    old = [
        artifact
        for artifact in store.artifacts(arguments.stage)
        if (now - datetime.fromisoformat(artifact.manifest["created"])).total_seconds()
        >= arguments.older_than * 86400
    ]
    leftovers = store.leftovers()
    if old:
        print(_table(old) + "\n")
    size = sum(artifact.size for artifact in old)
    what = f"{len(old)} artifacts ({size / 1e6:.1f} MB) and {len(leftovers)} leftover folders"
    if not arguments.delete:
        print(f"would delete {what}" + ("; next: punie store gc ... --delete" if old or leftovers else ""))
        return 0
    for artifact in old:
        store.remove(artifact)
    store.sweep()
    print(f"deleted {what}")
    return 0


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
