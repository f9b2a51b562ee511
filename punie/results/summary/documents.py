"""Writes a summary as text, CSV, JSON and a page, and the four files of a sweep's folder."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tabulate import tabulate

from punie.evals.scores import METRICS
from punie.results import files
from punie.results.pages.render import environment, page_style
from punie.results.pages.text import cell
from punie.results.records import Metric
from punie.results.run import METRICS as METRICS_FILE
from punie.results.summary import axes
from punie.results.summary.findings import in_text
from punie.results.summary.summary import RunRow, Summary, summarize
from punie.results.summary.tables import Table
from punie.results.sweep import SweepFacts
from punie.util.errors import PunieError
from punie.util.files import write_text
from punie.util.jsonl import excerpt
from punie.util.printable import folded, printable

LONGEST = 60
"""Rows of a table that a terminal is shown."""
_MOST_PICTURES = _MOST_LOSSES = 12
_NUMBER = re.compile(r"[-+<[]?[+-]?\d[\d.,]*($|[ ,\]])")
"""A number at the beginning of a cell, alone or before its interval."""
_INCH, _POINTS = 6.5, 72
"""An inch of a picture in rem, so that its text is as large as the page's; and in points."""
_WIDE = 24
"""Characters of a name beside a picture."""


def write(folder: Path, *, sweep: SweepFacts | None = None, notes: Sequence[str] = ()) -> Summary:
    """Summarize a sweep's folder into ``summary.{json,md,csv,html}`` in it.

    Args:
        folder: A sweep's folder; any folder of runs will do.
        sweep: The sweep's facts, which summary.json holds too.
        notes: Sentences that come before those on the runs.

    Raises:
        PunieError: There are no runs in it.
    """
    summary = summarize([folder], start=folder, allow_mixed=True)
    summary = summary.model_copy(update={"notes": (*notes, *summary.notes), "sweep": sweep})
    for suffix, style in (("md", "github"), ("csv", "csv"), ("html", "html"), ("json", "json")):
        write_text(folder / f"summary.{suffix}", render(summary, style, start=folder))
    return summary


def render(summary: Summary, style: str, *, start: Path, longest: int | None = None) -> str:
    """A summary as csv, json or html, or as text with tables in one of tabulate's formats.

    Args:
        summary: What to show.
        style: The format.
        start: The folder that its paths to runs start from.
        longest: Rows of a table that are shown; None for all. CSV, JSON and HTML always hold all.
    """
    if style == "csv":
        return _csv(summary)
    if style == "json":  # escapes all but ASCII
        return json.dumps(files.plain(summary), indent=1, allow_nan=False) + "\n"
    return _html(summary, start) if style == "html" else _text(summary, style, longest)


def _text(summary: Summary, style: str, longest: int | None) -> str:
    github = style == "github"
    heading, bullet = ("## ", "- ") if github else ("", "")
    blocks = [f"{heading[1:]}{printable(summary.title)}", "\n".join(map(printable, summary.notes))]
    for table in summary.tables.values():
        texts = [[printable(value) for value in row] for row in table.rows[:longest]]
        rows = [[cell(value) for value in row] for row in texts] if github else texts
        body = tabulate(rows, table.headers, style, disable_numparse=True) + ("\n\n" if github else "\n")
        more = len(table.rows) - len(rows)
        notes = [*table.notes, *([f"{more} more rows: --format csv, json or html"] if more else [])]
        blocks.append(f"{heading}{table.title}\n\n{body}" + "\n".join(map(printable, notes)))
    sentences = summary.conclusions[:longest]
    if more := len(summary.conclusions) - len(sentences):
        sentences = (*sentences, f"… and {more} more: --format github, json or html")
    shown = [printable(each) if github else folded(printable(each)) for each in sentences]
    for title, lines in (("Conclusions", shown), ("Outcome", map(printable, summary.outcome_in_words))):
        if listed := [f"{bullet}{line}" for line in lines]:
            blocks.append("\n".join([f"{heading}{title}", "", *listed]))
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n"


def _csv(summary: Summary) -> str:
    """A row for each run: its values on the axes, and every metric with its interval."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    figures = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    keys = [axis.key for axis in summary.axes]
    writer.writerow(["run", "name", "state", *keys, *figures, "prompts", "missing", "reason"])
    for run in summary.runs:
        found = [run.scores.get(metric) for metric in METRICS]
        scores = [value for each in found for value in (dataclasses.astuple(each) if each else ("", "", ""))]
        texts = map(printable, (run.run, run.name, run.state, *_values(summary, run, "")))
        writer.writerow([*texts, *scores, run.prompts, run.missing, printable(run.reason or "")])
    return page.getvalue()


def _values(summary: Summary, run: RunRow, unknown: str) -> list[str]:
    """A run's values on the axes, as they are shown."""
    return [axes.shown(run.axes[axis.key]) if run.axes else unknown for axis in summary.axes]


def _html(summary: Summary, start: Path) -> str:
    """One page without network or scripts; whatever comes from a run is escaped."""
    reports = {run.run: f"{run.run}/report.html" for run in summary.runs}
    return (
        environment(autoescape=True)
        .get_template("summary.html.jinja")
        .render(
            summary=summary,
            style=page_style(),
            pictures=_pictures(summary),
            losses=_losses(summary, start),
            numeric=_numeric,
            reports={run: quote(path) for run, path in reports.items() if (start / path).is_file()},
            values=lambda run: _values(summary, run, "–"),
            in_text=in_text,
        )
    )


def _numeric(table: Table) -> list[int]:
    """The columns of a table, but the first, that hold numbers."""
    columns = enumerate(zip(*table.rows, strict=True))
    return [i for i, texts in columns if i and (any(map(_NUMBER.match, texts)) or {*texts} == {"–"})]


def _pictures(summary: Summary) -> list[dict[str, Any]]:
    """Heatmaps; the last row axis makes the rows of one, the other row axes a heatmap for each value.

    Each has its svg, its width in rem, and a caption.
    """
    from punie.results.pages.plots import heatmap

    grid, groups = summary.grid, {}
    for place, cells in zip(grid.places, grid.cells, strict=True) if grid.rows else ():
        groups.setdefault(place[:-1], {})[place[-1]] = cells
    found = []
    for outer, rows in itertools.islice(groups.items(), _MOST_PICTURES):
        svg = heatmap(
            [[each.score.estimate if each.score else None for each in row] for row in rows.values()],
            [
                [f"{each.score.estimate:.2f}" if each.score else str(each) for each in row]
                for row in rows.values()
            ],
            rows=[_beside(each) for each in rows],
            columns=[_beside(each) for each in grid.columns] if grid.column else [summary.metric],
            row_label=grid.rows[-1],
            column_label=grid.column or "",
        )
        width = _INCH * float(re.findall(r'viewBox="0 0 ([\d.]+)', svg)[0]) / _POINTS
        caption = axes.in_words(grid.rows[:-1], outer) or f"{summary.metric}, mean over prompts"
        found.append({"svg": svg, "width": round(width, 1), "caption": caption})
    return found


def _losses(summary: Summary, start: Path) -> dict[str, str] | None:
    """The losses of the trainings in one picture, each once, and what it leaves out; None without any."""
    from punie.results.pages.plots import losses

    found: dict[str, Sequence[Metric]] = {}
    seen, unread, more = set[tuple[Any, ...]](), 0, 0
    for run in summary.runs:
        path = start / run.run / METRICS_FILE
        if not path.is_file():
            continue
        if len(found) == _MOST_LOSSES:
            more += 1
            continue
        try:
            metrics = files.read_metrics(path)
        except PunieError:
            unread += 1
            continue
        points = tuple((each.kind, each.iter, each.loss) for each in metrics)
        if len(points) > 1 and points not in seen:  # the runs of one training have copies of its metrics
            seen.add(points)
            found[_label(summary, run, len(found))] = metrics
    if not found:
        return None
    words = ["Lines: training loss", "points: validation loss"]
    words += [f"{more} more runs are not shown"] if more else []
    words += [f"the metrics of {unread} run{'s' * (unread > 1)} cannot be read"] if unread else []
    return {"svg": losses(found), "caption": f"{'; '.join(words)}."}


def _label(summary: Summary, run: RunRow, number: int) -> str:
    """A run's values on the axes of the training, with its number so that no two are the same."""
    values = run.axes or {}
    named = [
        f"{key.rpartition('.')[2]}={axes.shown(v)}" for key, v in values.items() if key.startswith("lora.")
    ]
    return printable(excerpt(f"{number + 1}: {' '.join(named) or run.name}", _WIDE))


def _beside(value: Any) -> str:
    """A value beside a picture, which has little room."""
    return printable(excerpt(axes.shown(value), _WIDE))
