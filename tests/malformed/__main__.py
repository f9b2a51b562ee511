"""The long form: any number of cases over all surfaces, and a table of how they ended.

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

from tests.malformed.surface import WAIT, Surface, case, play
from tests.malformed.surfaces import SURFACES

LEAST = 1_000
"""Fewest cases of a surface, if there are enough for all."""
ROOM = 6 * 2**30
"""Address space of this process, in bytes: a case that wants more fails, and not the machine."""


def shares(cases: int) -> dict[str, int]:
    """How many cases each surface gets."""
    surfaces = list(SURFACES.values())
    least = min(LEAST, cases // len(surfaces))
    left = cases - least * len(surfaces)
    parts = sum(surface.share for surface in surfaces)
    counts = {surface.name: least + left * surface.share // parts for surface in surfaces}
    counts[surfaces[0].name] += cases - sum(counts.values())
    return counts


def main() -> int:
    """Run the cases; the exit code is 1 if one of them ended in an uncaught error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000, help="over all surfaces (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all cases (default: %(default)s)")
    parser.add_argument("--surface", action="append", choices=SURFACES, help="only this one; can be repeated")
    parser.add_argument("--only", type=int, metavar="K", help="case K of a surface, with its traceback")
    arguments = parser.parse_args()
    chosen = [SURFACES[name] for name in arguments.surface or SURFACES]
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="punie-malformed-") as scratch:
        if arguments.only is not None:
            return _replay(chosen[0], arguments.seed, arguments.only, Path(scratch))
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))
        counts = shares(arguments.cases)
        rows = [_run(each, arguments.seed, counts[each.name], Path(scratch)) for each in chosen]
    rows.append(["all", *map(sum, list(zip(*rows, strict=True))[1:5]), max(row[5] for row in rows)])
    head = ["surface", "cases", "accepted", "refused", "uncaught", "slowest, s"]
    print(tabulate(rows, head, "github", intfmt=",", floatfmt=".2f"))
    return int(rows[-1][4] > 0)


def _run(surface: Surface, seed: int, count: int, scratch: Path) -> list:
    endings: Counter[str] = Counter()
    slowest = 0.0
    folder = scratch / surface.name.replace(" ", "-")
    folder.mkdir()
    for number in range(count):
        faulthandler.dump_traceback_later(2 * WAIT, exit=True)  # where no signal interrupts
        given = case(surface, seed, number)
        outcome = play(surface, given, folder)
        endings[outcome.ending] += 1
        slowest = max(slowest, outcome.seconds)
        if outcome.ending == "uncaught":
            shown = repr(given)
            shown = shown if len(shown) < 1_000 else f"{shown[:700]} … {shown[-250:]}"
            again = f"--surface '{surface.name}' --seed {seed} --only {number}"
            print(f"{again}: {outcome.words[:300]}\n  {shown}", file=sys.stderr)
    faulthandler.cancel_dump_traceback_later()
    return [surface.name, count, endings["accepted"], endings["refused"], endings["uncaught"], slowest]


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
