"""Build the embedded models again from their seed.

punie tiny build tiny              into data/models/tiny, in about 25 minutes on two cores
punie tiny build tiny --steps 20 --out /tmp/tiny     a shortened recipe, to see that it works
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from punie.commands.overrides import path_of
from punie.embedded.specs import SPECS
from punie.util.errors import PunieError
from punie.util.progress import Reporter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("action", choices=("build",))
    parser.add_argument("name", metavar="NAME", choices=SPECS, help=" or ".join(SPECS))
    parser.add_argument(
        "--out", type=path_of, metavar="DIR", help="folder to make (default: data/models/NAME)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and corpus (default: %(default)s)")
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer steps instead of the recipe's")


def run(arguments: argparse.Namespace) -> int:
    """Build; returns 1 if the files differ from the record of an earlier build in the folder."""
    from punie.embedded import cards
    from punie.embedded.build import build

    spec = SPECS[arguments.name]
    if arguments.steps is not None:
        spec = replace(spec, steps=arguments.steps)
    if spec.steps < 1:
        raise PunieError(
            "The number of steps must be positive.", where="--steps", found=spec.steps, expected="1 or more"
        )
    out = arguments.out or Path("data/models") / arguments.name
    earlier = cards.read_record(out)
    began = time.monotonic()
    with Reporter().bar(f"build {spec.name}", spec.steps, "steps") as bar:
        build(spec, out, seed=arguments.seed, bar=bar)
    built = cards.read_record(out) or {}
    print(f"{out}  {time.monotonic() - began:.0f} s")
    for name, digest in built["sha256"].items():
        print(f"  {digest}  {name}")
    if cards.contradicts(built, earlier):
        words = "the files differ from an earlier build with the same recipe, libraries and machine"
        print(words, file=sys.stderr)
        return 1
    return 0
