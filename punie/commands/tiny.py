"""The embedded models: build them again from their seed.

punie tiny build tiny              into data/models/tiny, in about 25 minutes on two cores
punie tiny build tiny --steps 20 --out /tmp/tiny     a shortened recipe, to see that it works
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from punie.util.progress import Reporter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("action", choices=("build",))
    parser.add_argument("name", metavar="NAME", help="tiny or tiny_dense")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to make (default: data/models/NAME)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and corpus (default: %(default)s)")
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer steps instead of the recipe's")


def run(arguments: argparse.Namespace) -> int:
    """Build; returns 1 if the folder's own record says that other files should have come out."""
    from punie.embedded import model_card as card
    from punie.embedded.build import build, recipe

    spec = recipe(arguments.name, arguments.steps)
    out = arguments.out or Path("data/models") / arguments.name
    earlier = card.read(out)
    began = time.monotonic()
    with Reporter().bar(f"build {spec.name}", spec.steps, "steps") as bar:
        build(spec.name, out, seed=arguments.seed, steps=spec.steps, progress=bar)
    built = card.read(out) or {}
    print(f"{out}  {time.monotonic() - began:.0f} s")
    for name, digest in built["sha256"].items():
        print(f"  {digest}  {name}")
    if card.contradicts(built, earlier):
        print(
            "the files differ from those built here before from the same recipe and libraries",
            file=sys.stderr,
        )
        return 1
    return 0
