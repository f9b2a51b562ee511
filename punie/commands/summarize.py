"""Summarize runs and sweeps: a table for each question, and what the scores show.

punie summarize outputs/sweeps/NAME/ID                        seeds by temperatures, and conclusions
punie summarize outputs/runs outputs/sweeps --where model.name=tiny
punie summarize DIR --by lora.rank,temperature --metric keyword
punie summarize DIR --format html --out summary.html          a page with a heatmap and links to the runs

Axes are the config fields that differ among the runs; a field may be given by its last part where that is
unambiguous. Intervals count prompts: repeats and seeds make none narrower. Runs that failed, or cannot be
read, are shown as such; the exit code is 1 if one cannot be read.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from punie.commands.overrides import path_of
from punie.evals.scores import METRICS
from punie.util.errors import PunieError

_FORMATS = ("simple", "github", "plain", "csv", "json", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    by = "rows, and columns, of the scores (default: seeds by temperatures)"
    metric = "default: the score that the runs' phase is about, or strict"
    where = "only such runs; may be repeated"
    places = "a run, a sweep, or a folder of them"
    parser.add_argument("places", nargs="+", type=path_of, metavar="DIR", help=places)
    parser.add_argument("--format", choices=_FORMATS, default="simple", help="default: %(default)s")
    parser.add_argument("--by", metavar="AXIS[,AXIS]", help=by)
    parser.add_argument("--metric", choices=METRICS, help=metric)
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help=where)
    parser.add_argument("--allow-mixed", action="store_true", help="put runs on different suites together")
    parser.add_argument("--out", type=path_of, metavar="FILE", help="write there instead")


def run(arguments: argparse.Namespace) -> int:
    """Print the summary, or write it."""
    from punie.results.summary import documents
    from punie.results.summary.collect import UNREAD
    from punie.results.summary.summary import summarize
    from punie.util.files import write_text

    out: Path | None = arguments.out
    if out is not None and not out.absolute().parent.is_dir():
        raise PunieError("There is no such folder.", where=out.parent, next_step="make it, or name another")
    if out is not None and out.is_dir():
        raise PunieError("This is a folder.", where=out, expected="a file, as in --out summary.html")
    start = Path.cwd() if out is None else out.absolute().parent
    summary = summarize(
        arguments.places,
        start=start,
        by=[key.strip() for key in arguments.by.split(",")] if arguments.by else (),
        metric=arguments.metric,
        where=arguments.where,
        allow_mixed=arguments.allow_mixed,
    )
    whole = out is not None or arguments.format in ("csv", "json", "html")
    longest = None if whole else documents.LONGEST
    page = documents.render(summary, arguments.format, start=start, longest=longest)
    if out is not None:
        write_text(out, page)
        print(f"{out}  {len(summary.runs)} runs")
    else:
        print(page, end="")
    if not whole:
        again = shlex.join(["punie", "summarize", *map(str, arguments.places)])
        print(f"\nas a page: {again} --format html --out summary.html")
    return 1 if any(run.state == UNREAD for run in summary.runs) else 0
