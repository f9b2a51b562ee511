"""Break things on purpose, and see that nothing is lost: ``python -m tests.faults``.

python -m tests.faults                            everything, in its long version
python -m tests.faults kills=20 disk              these kinds; the first with 20 cases
python -m tests.faults calls --part 2/3           a third of them, if they are to be run in pieces
python -m tests.faults kills --seed 7 --only 12   one case again: as it was printed
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from tabulate import tabulate

from tests.faults import calls, clock, crowd, damage, disk, forks, kills, readonly, signals, world
from tests.faults.report import Case, go

KINDS: dict[str, tuple[Callable[[world.World, int], Iterable[Case]], int]] = {
    "kills": (kills.cases, 210),
    "calls": (calls.cases, 900),
    "power": (calls.power, 200),
    "damage": (damage.cases, 150),
    "disk": (disk.cases, 30),
    "signals": (signals.cases, 28),
    "clock": (clock.cases, 12),
    "crowd": (crowd.cases, 56),
    "readonly": (readonly.cases, 7),
}
"""Each with how many cases of it there are in the long version."""


def main() -> int:
    """Break what is asked for; 1 if anything was lost, wrong, left over, locked or stuck."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("kinds", nargs="*", metavar="KIND[=COUNT]", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="default: any, and printed")
    parser.add_argument("--only", type=int, metavar="N", help="case N alone")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every N-th case, from the K-th on")
    parser.add_argument(
        "--world", type=Path, help="folder to work in, and to find what was made there before"
    )
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    counts = {kind: count for kind, _, count in (each.partition("=") for each in arguments.kinds or KINDS)}
    if unknown := counts.keys() - KINDS.keys():
        parser.error(f"no such kind: {', '.join(unknown)}")
    part, parts = map(int, arguments.part.split("/"))

    def wanted(number: int) -> bool:
        return number == arguments.only if arguments.only is not None else number % parts == part - 1

    forks.preload()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="punie-faults-") as scratch:
        made = world.make((arguments.world or Path(scratch)).absolute())
        tallies = []
        for kind, given in counts.items():
            cases, usual = KINDS[kind]
            count = int(given or usual)
            tallies.append(go(f"{kind}={count}", cases(made, count), arguments.seed, wanted))
    rows = [[t.kind.partition("=")[0], *pair] for t in tallies for pair in t.row().items()]
    print("\n" + tabulate(rows, ["kind", "what", "count"], tablefmt="simple"))
    wrong = [text for tally in tallies for text in tally.wrong]
    print(f"\nseed {arguments.seed}: {len(wrong)} lost, wrong, left over, locked or stuck")
    print("\n".join(wrong))
    if arguments.json:
        figures = {t.kind.partition("=")[0]: {**t.figures, "wrong": t.wrong} for t in tallies}
        arguments.json.write_text(json.dumps(figures))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
