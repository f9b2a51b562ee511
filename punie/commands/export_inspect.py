"""Write a finished run's responses and scores as a log for Inspect, with the digests they belong to.

punie export-inspect outputs/runs/NAME/ID logs/run.eval      then: inspect view --log-dir logs

Inspect comes with the extra: pip install 'punie[inspect]'. It lists .eval files; .json is for programs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from punie.commands.overrides import path_of
from punie.results.run import Run, unfinished
from punie.util.errors import PunieError

_SUFFIXES = (".eval", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=path_of, metavar="RUN", help="a finished run's directory")
    parser.add_argument("out", type=path_of, metavar="OUT", help="the log to write: a new .eval or .json")


def run(arguments: argparse.Namespace) -> int:
    """Write the log, whole or not at all."""
    out: Path = arguments.out
    if out.suffix not in _SUFFIXES:
        expected = " or ".join(_SUFFIXES)
        raise PunieError("This is not a file name of an Inspect log.", where=out, expected=expected)
    if out.exists():
        raise PunieError("The file is there already.", where=out, next_step="name a new file")
    source = Run(arguments.run).require_finished()
    samples = source.samples
    try:
        from punie.results.pages import inspect_log
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "inspect_ai":
            raise
        raise PunieError(
            "Inspect is not installed here.",
            found="no package inspect_ai",
            expected="the extra punie[inspect]",
            next_step="pip install 'punie[inspect]', best in a virtual environment of its own",
        ) from None
    try:
        log = inspect_log.build(source)
    except ValueError as error:  # Inspect checks the values it is given, such as times
        raise unfinished(source.folder, " ".join(str(error).split())) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / out.name
        inspect_log.write(log, made)
        made.replace(out)
    missing = sum(not sample.answered for sample in samples)
    print(f"{out}  {len(samples)} responses" + (f", {missing} of them missing" if missing else ""))
    print(f"next: inspect view --log-dir {out.parent}")
    return 0
