"""Decide whether a run's model may replace its base: SHIP, HOLD or CANNOT TELL, by criteria fixed before it.

punie ship outputs/runs/NAME/ID

The run has evaluated the base beside its result: 'eval.targets=[base,quantized]'. The criteria are those of
its config group ship (conf/ship/default.yaml). The exit code is 0 for SHIP, 3 for HOLD, 4 for CANNOT TELL.
"""

from __future__ import annotations

import argparse
import shlex

from punie.commands.overrides import path_of
from punie.config.command import CommandLine
from punie.results.records import DECISIONS
from punie.results.run import Run
from punie.util.errors import PunieError

EXIT = dict(zip(DECISIONS, (0, 3, 4), strict=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=path_of, metavar="RUN", help="a finished run's directory")


def run(arguments: argparse.Namespace) -> int:
    """Print the decision that the run recorded, and its criteria.

    Raises:
        PunieError: The run has not finished, or decided nothing.
    """
    from punie.results.pages.tables import in_text, ship_sentence, ship_table
    from punie.util.printable import printable

    source = Run(arguments.run).require_finished()
    found = source.results.ship
    if found is None:
        raise PunieError(
            "The run decided nothing.",
            where=source.folder,
            found="no base beside the result, or no criteria",
            expected="the base among eval.targets beside another target, and a preset of ship with criteria",
            next_step=f"{shlex.join(['python', '-m', 'punie', *_again(source)])}  (what is built is reused)",
        )
    print(in_text(ship_table(found)))
    print(f"\n{printable(ship_sentence(found))}")
    return EXIT[found.decision]


def _again(source: Run) -> list[str]:
    """The arguments of a run that decides: those of this one, with what it lacked."""
    command, target = source.provenance.command, source.results.target
    target = target if target != "base" else "quantized"
    dropped = ("eval.targets=", "eval.target=", "ship=")
    kept = [each for each in source.provenance.overrides if not each.startswith(dropped)]
    flags = CommandLine.read(command[3:]).carried if command[:3] == ["python", "-m", "punie"] else []
    return [*flags, *kept, f"eval.target={target}", f"eval.targets=[base,{target}]", "ship=default"]
