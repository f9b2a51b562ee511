"""Apply the current parser, sandbox and scorers to a run's recorded responses; no model is loaded.

punie rescore outputs/runs/NAME/ID
punie rescore outputs/runs/NAME/ID --out rescored.jsonl

The run directory is not changed. The exit code is 0 if every score and every response class is the same, and
1 if something changed (or if the run cannot be read).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from punie.commands.overrides import path_of
from punie.evals.scores import heading
from punie.results.run import Run, require_responses
from punie.util.errors import PunieError
from punie.util.printable import printable

if TYPE_CHECKING:
    from punie.results.records import Sample, Scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=path_of, metavar="RUN", help="a finished run's directory")
    parser.add_argument("--out", type=path_of, metavar="FILE", help="a new file for the records scored again")


def run(arguments: argparse.Namespace) -> int:
    """Print old and new scores, and each response whose score changed; 1 if there is one."""
    from punie import formats
    from punie.evals.sandbox import Sandbox
    from punie.results import files
    from punie.results.scoring import rescored, summary

    if arguments.out and arguments.out.exists():
        raise PunieError("The file is there already.", where=arguments.out, next_step="name a new file")
    source = Run(arguments.run).require_finished()
    before = require_responses(source)
    form = formats.restore(source.results.format.name, source.results.format.record)
    with Sandbox() as sandbox:
        after = list(rescored(form, before, sandbox))
    changes = [words for old, new in zip(before, after, strict=True) if (words := _change(old, new))]
    allow = bool(source.config.value("eval.allow_missing"))
    if any(each.answered for each in after):
        print(_table(summary(before, allow_missing=allow), summary(after, allow_missing=allow)), end="\n\n")
    results = source.results
    lines = [
        f"weights {results.identity.weights.whole} ({results.target}); "
        f"temperature {results.sampling.temperature:g}, seed {results.sampling.seed}",
        *(f"identity: unverified ({reason})" for reason in source.doubts()),
        *(f"  {words}" for words in changes),
        f"{len(changes)} of {len(after)} responses are scored differently",
    ]
    print("\n".join(map(printable, lines)))
    if arguments.out:
        files.write_samples(arguments.out, after)
    return 1 if changes else 0


def _change(old: Sample, new: Sample) -> str | None:
    """What differs between a response's old and new scores, in a line; None if nothing does."""
    words = [
        f"{heading(name)} {old.scores[name].value:g} → {score.value:g}"
        for name, score in new.scores.items()
        if name in old.scores and score.value != old.scores[name].value  # a scorer may be newer than the run
    ]
    if not words and old.taxonomy == new.taxonomy:
        return None
    words.append(_arrow(_outcome(old), _outcome(new)))
    return f"{old.id}, repeat {old.repeat}: {', '.join(words)}"


def _outcome(sample: Sample) -> str:
    return heading(sample.taxonomy) if sample.answered else f"missing ({sample.missing})"


def _table(before: Scores, after: Scores) -> str:
    """The score table, old → new where a figure changed."""
    from punie.results.pages.tables import in_text, score_table

    old_headers, old_rows = score_table(before)
    headers, rows = score_table(after)
    old = {(row[0], name): value for row in old_rows for name, value in zip(old_headers, row, strict=True)}
    cells = [
        [_arrow(old.get((row[0], name), "–"), value) for name, value in zip(headers, row, strict=True)]
        for row in rows
    ]
    return in_text((headers, cells))


def _arrow(old: str, new: str) -> str:
    return old if old == new else f"{old} → {new}"
