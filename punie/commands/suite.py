"""Suites of others: BFCL v4's items in Python as suites of punie.

punie suite import bfcl bfcl_eval-2026.3.23-py3-none-any.whl     into the user's cache, for eval=bfcl_simple
punie suite import bfcl FOLDER --out my/suites    into a folder: eval.suite=my/suites/bfcl.jsonl

An installed bfcl-eval (pip install --no-deps bfcl-eval) needs no import: eval=bfcl_simple reads its data.
Data of another version, or that are not complete, are refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from punie.commands.overrides import path_of
from punie.util.errors import PunieError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("action", choices=("import",))
    parser.add_argument("kind", choices=("bfcl",))
    parser.add_argument(
        "source", metavar="WHEEL_OR_FOLDER", type=path_of, help="bfcl-eval's wheel, or its data"
    )
    parser.add_argument("--out", type=path_of, help="folder to write (default: the user's cache)")
    words = "write dots in names as underscores, for a model that cannot write dots; needs --out"
    parser.add_argument("--underscores", action="store_true", help=words)


def run(arguments: argparse.Namespace) -> int:
    """Convert, and say how to evaluate.

    Raises:
        PunieError: The data are not complete.
    """
    from punie.evals import bfcl_suites
    from punie.evals.suite import load_suite

    out: Path | None = arguments.out
    if arguments.underscores and out is None:
        raise PunieError(
            "Suites with other names need a folder of their own.",
            where="--underscores",
            next_step="--out FOLDER",
        )
    if out is None:
        folder = bfcl_suites.convert(arguments.source).path
        if bfcl_suites.installed() is not None:
            print("note: bfcl-eval is installed; eval=bfcl reads its data, not these")
        following = "eval=bfcl_simple"
    else:
        found = bfcl_suites.suites(arguments.source, underscores=arguments.underscores)
        out.mkdir(parents=True, exist_ok=True)
        bfcl_suites.write(out, found)
        folder, following = out, f"eval.suite={out / 'bfcl_simple.jsonl'}"
    items = load_suite(folder / f"{bfcl_suites.ALL}.jsonl")
    print(f"{len(items):,} items in {len(bfcl_suites.SUITES)} categories: {folder}")
    print(f"next: python -m punie data=native_tools {following}")
    return 0
