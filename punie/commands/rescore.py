"""Apply today's parser, sandbox and scorers to a run's recorded answers; no model is needed or loaded.

punie rescore outputs/runs/NAME/ID
punie rescore outputs/runs/NAME/ID --out rescored.jsonl

The run directory stays as it is. The exit code is 0 when every score and what became of every answer are
the same, and 1 when something changed (or when the run cannot be read).
"""

from __future__ import annotations

import argparse
import functools
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from punie.evals.scores import SCORERS
from punie.results import finished
from punie.util.errors import PunieError
from punie.util.printable import printable

Record = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a new file for the records scored again")


def run(arguments: argparse.Namespace) -> int:
    """Print the scores old and new, and each answer that is scored otherwise; 1 if there is one."""
    from punie.evals.sandbox import Sandbox
    from punie.results.answers import rescored, summary
    from punie.util.files import write_lines

    if arguments.out and arguments.out.exists():
        raise PunieError("The file is there already.", where=arguments.out, next_step="name a new file")
    source = finished.read(arguments.run)
    before = finished.read_answers(source)
    with Sandbox() as sandbox:
        after = list(rescored(before, sandbox))
    changes = [words for old, new in zip(before, after, strict=True) if (words := _change(old, new))]
    allow = source.config.eval.allow_missing
    with finished.as_written(arguments.run):
        print(_table(summary(before, allow_missing=allow), summary(after, allow_missing=allow)))
        print(f"\n{_identity(source, before)}")
    for words in changes:
        print(f"  {printable(words)}")
    print(f"{len(changes)} of {len(after)} answers are scored otherwise")
    if arguments.out:
        write_lines(arguments.out, after)
    return 1 if changes else 0


def _change(old: Record, new: Record) -> str | None:
    """What differs between an answer's scores then and now, in a line; None if nothing does."""
    if old["missing"] is not None:
        return None
    both = [name for name in new["scores"] if name in old["scores"]]  # a scorer may be new since then
    pairs = {name: (old["scores"][name]["value"], new["scores"][name]["value"]) for name in both}
    words = [f"{name} {was:g} → {now:g}" for name, (was, now) in pairs.items() if was != now]
    if words or old["taxonomy"] != new["taxonomy"]:
        words.append(_arrow(old["taxonomy"], new["taxonomy"]))
        return f"{old['id']}, repeat {old['repeat']}: {', '.join(words)}"
    return None


def _table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The score table, old → new wherever a mean has moved."""

    shown = [score for score in SCORERS if score in after]

    def row(name: str, *path: str) -> list[str]:
        old, new = (
            {score: functools.reduce(operator.getitem, path, of[score]) for score in shown if score in of}
            for of in (before, after)
        )
        was = (_share(old[score]["mean"]) if score in old else "–" for score in shown)
        means = map(_arrow, was, (_share(new[score]["mean"]) for score in shown))
        return [printable(name), str(new["strict"]["n"]), *means]

    rows = [row(name, "categories", name) for name in after["strict"]["categories"]]
    headers = ["category", "n", *shown]
    return tabulate(
        [*rows, row("overall", "overall")],
        headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=["left", *["right"] * (len(headers) - 1)],
    )


def _identity(source: finished.Finished, records: list[dict[str, Any]]) -> str:
    """What the scores belong to."""
    results = source.results
    sampling, weights = results["sampling"], results["identity"]["weights"]["whole"]
    lines = [
        f"weights {weights} ({results['target']}); temperature {sampling['temperature']:g}, "
        f"seed {sampling['seed']}",
        *(f"identity: unverified ({reason})" for reason in finished.doubts(source, records)),
    ]
    return "\n".join(map(printable, lines))


def _arrow(old: str, new: str) -> str:
    return old if old == new else f"{old} → {new}"


def _share(mean: float | None) -> str:
    return "–" if mean is None else f"{mean:.3f}"
