"""The long version: as many cases as are asked for, over all surfaces, with a table of what became of them.

python -m tests.malformed --cases 200000 --seed 0                    every surface
python -m tests.malformed --surface suites --seed 0 --only 1234      one case again, with its traceback
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tabulate import tabulate

from tests.malformed.surface import DEADLINE, Outcome, Surface, case, play
from tests.malformed.surfaces import SURFACES

LEAST = 1_000
"""Cases that every surface gets, where so many are asked for in all."""
ROOM = 6 * 2**30
"""Address space of this process, in bytes: a case that wants more fails, and the machine goes on."""


def shares(surfaces: list[Surface], cases: int) -> dict[str, int]:
    """How many cases each surface gets."""
    least = min(LEAST, cases // len(surfaces))
    left = cases - least * len(surfaces)
    parts = sum(surface.share for surface in surfaces) or 1
    counts = {surface.name: least + left * surface.share // parts for surface in surfaces}
    counts[surfaces[0].name] += cases - sum(counts.values())
    return counts


def main() -> int:
    """Run the cases; the exit code is 1 if one of them ended as none may."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000, help="over all surfaces (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    parser.add_argument(
        "--surface", action="append", choices=SURFACES, help="only this one's; may be repeated"
    )
    parser.add_argument(
        "--only", type=int, metavar="K", help="play case K of a surface, uncaught errors as they are"
    )
    arguments = parser.parse_args()
    chosen = [SURFACES[name] for name in arguments.surface or SURFACES]
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="punie-malformed-") as scratch:
        if arguments.only is not None:
            return _replay(chosen[0], arguments.seed, arguments.only, Path(scratch))
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))
        counts = shares(list(SURFACES.values()), arguments.cases)
        rows, uncaught = [], 0
        for surface in chosen:
            numbers = range(counts[surface.name])
            row = _run(surface, arguments.seed, numbers, Path(scratch))
            rows.append(row)
            uncaught += row[4]
    rows.append(
        ["all", *(sum(row[column] for row in rows) for column in range(1, 5)), max(row[5] for row in rows)]
    )
    print(
        tabulate(
            rows,
            ["surface", "cases", "accepted", "refused", "uncaught", "slowest, s"],
            "github",
            intfmt=",",
            floatfmt=".2f",
        )
    )
    return int(uncaught > 0)


def _run(surface: Surface, seed: int, numbers: range, scratch: Path) -> list:
    endings: Counter[str] = Counter()
    slowest = 0.0
    folder = scratch / surface.name.replace(" ", "-")
    folder.mkdir()
    for number in numbers:
        faulthandler.dump_traceback_later(6 * DEADLINE, exit=True)  # of what no signal interrupts
        given = case(surface, seed, number)
        outcome = play(surface, given, folder)
        endings[outcome.ending] += 1
        slowest = max(slowest, outcome.seconds)
        if outcome.ending == "uncaught":
            _tell(surface, seed, number, given, outcome)
    faulthandler.cancel_dump_traceback_later()
    return [surface.name, len(numbers), endings["accepted"], endings["refused"], endings["uncaught"], slowest]


def _tell(surface: Surface, seed: int, number: int, given: object, outcome: Outcome) -> None:
    shown = repr(given)
    shown = shown if len(shown) < 1_000 else f"{shown[:700]} … {shown[-250:]}"
    print(
        f"--surface '{surface.name}' --seed {seed} --only {number}: {outcome.words[:300]}\n  {shown}",
        file=sys.stderr,
    )


def _replay(surface: Surface, seed: int, number: int, folder: Path) -> int:
    given = case(surface, seed, number)
    print(repr(given))
    outcome = play(surface, given, folder)
    print(f"{outcome.ending} after {outcome.seconds:.3f} s {outcome.words}")
    if outcome.ending != "uncaught":
        return 0
    surface.feed(given, folder)  # with its traceback
    return 1


if __name__ == "__main__":
    sys.exit(main())
