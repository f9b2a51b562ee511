"""Inject faults into runs, and check that nothing is lost: ``python -m tests.faults``.

python -m tests.faults                            all kinds, in the long form
python -m tests.faults kills=20 disk              these kinds; the first with 20 cases
python -m tests.faults calls --part 2/3           a third of the cases
python -m tests.faults --jobs 2                   all kinds, in two parts at once
python -m tests.faults kills --seed 7 --only 12   one case again, as it was printed
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tabulate import tabulate

from tests.faults import calls, damage, filesystems, forks, sharing, stops, surroundings, world
from tests.faults.report import Case, Tally, go

KINDS: dict[str, tuple[Callable[[world.World, int], Iterable[Case]], int]] = {
    "kills": (stops.kills, 210),
    "calls": (calls.cases, 840),
    "power": (calls.power, 200),
    "gc": (calls.emptying, 40),
    "damage": (damage.cases, 150),
    "disk": (filesystems.full, 30),
    "signals": (stops.signals, 28),
    "clock": (surroundings.clocks, 12),
    "crowd": (surroundings.crowds, 56),
    "readonly": (filesystems.read_only, 7),
    "collect": (sharing.collecting, 42),
    "users": (sharing.users, 6),
    "checkouts": (sharing.checkouts, 8),
    "spread": (sharing.spread, 18),
}
"""Each with its number of cases in the long form."""


def main() -> int:
    """Run the cases; 1 if anything was lost, wrong, left over, locked or stuck."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("kinds", nargs="*", metavar="KIND[=COUNT]", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="default: any, and printed")
    parser.add_argument("--only", type=int, metavar="N", help="case N alone")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every N-th case, from the K-th on")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="run N parts at once, each its own")
    parser.add_argument(
        "--world", type=Path, help="folder to work in, and to find what was made there before"
    )
    parser.add_argument("--json", type=Path, help="write the figures there, and print no table")
    arguments = parser.parse_args()
    counts = {kind: count for kind, _, count in (each.partition("=") for each in arguments.kinds or KINDS)}
    if unknown := counts.keys() - KINDS.keys():
        parser.error(f"no such kind: {', '.join(unknown)}")
    part, parts = map(int, arguments.part.split("/"))

    def wanted(number: int) -> bool:
        return number == arguments.only if arguments.only is not None else number % parts == part - 1

    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="punie-faults-") as folder:
        scratch, kinds = Path(folder), [f"{kind}={count or KINDS[kind][1]}" for kind, count in counts.items()]
        if arguments.jobs > 1 and arguments.only is None:
            tallies = _side_by_side(kinds, arguments.seed, arguments.jobs, scratch)
        else:
            forks.preload()
            made = world.make((arguments.world or scratch).absolute())
            tallies = [
                go(kind, KINDS[name][0](made, int(count)), arguments.seed, wanted)
                for kind in kinds
                for name, _, count in [kind.partition("=")]
            ]
    if not arguments.json:
        head = ["kind", "cases", "what happened", "lost, wrong, left over, locked or stuck"]
        print("\n" + tabulate([tally.row() for tally in tallies], head, "github", intfmt=","))
    wrong = [text for tally in tallies for text in tally.wrong]
    print(f"\nseed {arguments.seed}: {len(wrong)} lost, wrong, left over, locked or stuck")
    print("\n".join(wrong))
    if arguments.json:
        figures = {tally.kind.partition("=")[0]: {**tally.figures, "wrong": tally.wrong} for tally in tallies}
        arguments.json.write_text(json.dumps(figures))
    return 1 if wrong else 0


def _side_by_side(kinds: list[str], seed: int, parts: int, scratch: Path) -> list[Tally]:
    """Run every part in a process of its own, and add up what they found."""
    processes = []
    for part in range(1, parts + 1):
        command = [sys.executable, "-m", "tests.faults", *kinds, "--seed", str(seed)]
        command += ["--part", f"{part}/{parts}", "--json", str(scratch / f"{part}.json")]
        processes.append(subprocess.Popen(command))
    tallies = [Tally(kind) for kind in kinds]
    for process in processes:
        process.wait()
    for part, process in enumerate(processes, 1):
        if process.returncode not in (0, 1):
            raise SystemExit(f"part {part} of {parts} ended with {process.returncode}")
        found = json.loads((scratch / f"{part}.json").read_text())
        for tally in tallies:
            figures = found[tally.kind.partition("=")[0]]
            tally.wrong += figures.pop("wrong")
            tally.figures.update(figures)
    return tallies


if __name__ == "__main__":
    sys.exit(main())
