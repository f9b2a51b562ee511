"""A summary as text, CSV, JSON and a page, and the four files of a sweep's folder."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tabulate import tabulate

from punie.evals.scores import METRICS
from punie.results.pages.render import environment, page_style
from punie.results.pages.text import cell
from punie.results.summary import axes, cells
from punie.results.summary.summary import Summary, summarize
from punie.results.summary.tables import Table
from punie.util.files import write_text
from punie.util.jsonl import excerpt
from punie.util.printable import folded, printable

SCHEMA = 1
LONGEST = 60
"""Rows of a table that a terminal is shown."""
_MOST_PICTURES = 12
_NUMBER = re.compile(r"[-+<[]?[+-]?\d[\d.,]*($|[ ,\]])")
"""A number at the beginning of a cell, alone or before its interval."""
_INCH, _POINTS = 6.5, 72
"""An inch of a picture in rem, so that its text is as large as the page's; and in points."""
_WIDE = 24
"""Characters of a name beside a picture."""


def write(folder: Path, *, sweep: Mapping[str, Any] | None = None, notes: Sequence[str] = ()) -> Summary:
    """Summarize a sweep's folder into ``summary.{json,md,csv,html}`` in it.

    Args:
        folder: A sweep's folder; any folder of runs will do.
        sweep: What the sweep knows of itself; it stands in summary.json as ``sweep``.
        notes: Sentences that come before those on the runs.

    Raises:
        PunieError: There are no runs in it.
        ValueError: ``sweep`` holds a number that is not finite.
    """
    summary = summarize([folder], allow_mixed=True)
    summary = dataclasses.replace(summary, notes=(*notes, *summary.notes))
    for suffix, words in (("md", "github"), ("csv", "csv"), ("html", "html")):
        write_text(folder / f"summary.{suffix}", render(summary, words, start=folder))
    write_text(folder / "summary.json", _json(summary, folder, sweep))
    return summary


def render(summary: Summary, words: str, *, start: Path, longest: int | None = None) -> str:
    """A summary as csv, json or html, or as text with tables in one of tabulate's formats.

    Args:
        summary: What to show.
        words: The format.
        start: The folder that paths to runs start from.
        longest: Rows of a table that are shown; None for all. CSV, JSON and HTML always hold all.
    """
    if words == "csv":
        return _csv(summary, start)
    if words == "json":
        return _json(summary, start, None)
    if words == "html":
        return _html(summary, start)
    return _text(summary, words, longest)


def _text(summary: Summary, words: str, longest: int | None) -> str:
    github = words == "github"
    heading = "## " if github else ""
    blocks = [f"{'# ' if github else ''}{printable(summary.title)}", "\n".join(map(printable, summary.notes))]
    for table in summary.tables:
        rows = [[_cell(value, github) for value in row] for row in table.rows[:longest]]
        body = tabulate(rows, table.headers, words, disable_numparse=True)
        more = len(table.rows) - len(rows)
        notes = [*table.notes, *([f"{more} more rows: --format csv, json or html"] if more else [])]
        body += "\n\n" if github else "\n"
        blocks.append(f"{heading}{table.title}\n\n{body}" + "\n".join(map(printable, notes)))
    marks = "- " if github else ""
    sentences = summary.verdict[:longest]
    if more := len(summary.verdict) - len(sentences):
        sentences = (*sentences, f"… and {more} more sentences: --format github, json or html")
    said = (f"- {printable(each)}" if github else folded(printable(each)) for each in sentences)
    blocks.append("\n".join([f"{heading}Verdict", "", *said]))
    if conclusion := summary.conclusion:
        blocks.append(
            "\n".join([f"{heading}Outcome", "", *(f"{marks}{printable(each)}" for each in conclusion)])
        )
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n"


def _cell(value: str, github: bool) -> str:
    return cell(printable(value)) if github else printable(value)


def _csv(summary: Summary, start: Path) -> str:
    """A row for each run: its place on the axes, and every metric with its interval."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    keys = [axis.key for axis in summary.axes]
    figures = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    writer.writerow(["run", "name", "state", *keys, *figures, "prompts", "missing", "reason"])
    for run in summary.runs:
        place = [axes.shown(axes.value(run, key)) if run.config else "" for key in keys]
        scores = [_score(run, metric) for metric in METRICS]
        writer.writerow(
            [
                *map(printable, (_path(run.folder, start), run.name, run.state, *place)),
                *(value for score in scores for value in score),
                *(len(run.answers), run.missing, printable(run.reason or "")),
            ]
        )
    return page.getvalue()


def _score(run: Any, metric: str) -> tuple[Any, Any, Any]:
    score = cells.cell([run], metric).score
    return ("", "", "") if score is None else (score.estimate, score.low, score.high)


def _json(summary: Summary, start: Path, sweep: Mapping[str, Any] | None) -> str:
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "title": summary.title,
        "metric": summary.metric,
        "notes": summary.notes,
        "axes": [dataclasses.asdict(axis) for axis in summary.axes],
        "verdict": summary.verdict,
        "outcome": summary.outcome,
        "grid": dataclasses.asdict(summary.grid),
        "recipes": [dataclasses.asdict(each) for each in summary.findings],
        "comparisons": [dataclasses.asdict(each) for each in summary.comparisons],
        "tables": {table.name: dataclasses.asdict(table) for table in summary.tables},
        "runs": [
            {
                "run": _path(run.folder, start),
                "name": run.name,
                "state": run.state,
                "reason": run.reason,
                "suite": run.suite and dict(zip(("name", "sha256"), run.suite, strict=True)),
                "unverified": run.unverified,
                "axes": {axis.key: axes.value(run, axis.key) for axis in summary.axes}
                if run.config
                else None,
                "scores": {
                    metric: score.score.estimate
                    for metric in METRICS
                    if (score := cells.cell([run], metric)).score is not None
                },
                "prompts": len(run.answers),
                "missing": run.missing,
            }
            for run in summary.runs
        ],
        "merged": summary.merged,
    }
    if sweep is not None:
        value["sweep"] = sweep
    return (
        json.dumps(value, indent=1, allow_nan=False) + "\n"
    )  # its escapes hold any text, and move no cursor


def _html(summary: Summary, start: Path) -> str:
    """One page without network or scripts; whatever comes from a run is escaped."""
    runs = [
        {
            "name": _path(run.folder, start),
            "state": run.state,
            "reason": run.reason,
            "report": quote(_path(run.folder / "report.html", start))
            if (run.folder / "report.html").is_file()
            else None,
            "place": [axes.shown(axes.value(run, axis.key)) if run.config else "–" for axis in summary.axes],
            "score": str(cells.cell([run], summary.metric)) if run.finished else "–",
        }
        for run in summary.runs
    ]
    return (
        environment(autoescape=True)
        .get_template("summary.html.jinja")
        .render(
            summary=summary,
            style=page_style(),
            tables=[{**vars(table), "numbers": _numbers(table)} for table in summary.tables],
            run_headers=["run", *(axis.key for axis in summary.axes), summary.metric, "state"],
            runs=runs,
            pictures=_pictures(summary),
        )
    )


def _numbers(table: Table) -> list[int]:
    """The columns of a table, but the first, that hold numbers."""
    columns = list(enumerate(zip(*table.rows, strict=True)))[1:]
    return [
        place
        for place, cells in columns
        if any(_NUMBER.match(each) for each in cells) or all(each == "–" for each in cells)
    ]


def _pictures(summary: Summary) -> list[dict[str, Any]]:
    """A heatmap for each place on the row axes but the last, which makes its rows."""
    from punie.results.pages.plots import heatmap

    grid = summary.grid
    if not grid.rows:
        return []
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, place in enumerate(grid.places):
        groups.setdefault(place[:-1], []).append(index)
    found = []
    for outer, indices in list(groups.items())[:_MOST_PICTURES]:
        rows = [grid.cells[index] for index in indices]
        svg = heatmap(
            [[each.score.estimate if each.score else None for each in row] for row in rows],
            [[f"{each.score.estimate:.2f}" if each.score else str(each) for each in row] for row in rows],
            rows=[_label(grid.places[index][-1]) for index in indices],
            columns=[_label(each) for each in grid.columns] if grid.column else [summary.metric],
            row_label=grid.rows[-1],
            column_label=grid.column or "",
        )
        pairs = zip(grid.rows[:-1], outer, strict=True)
        caption = ", ".join(f"{key}={axes.shown(value)}" for key, value in pairs)
        width = _INCH * float(re.findall(r'viewBox="0 0 ([\d.]+)', svg)[0]) / _POINTS
        caption = caption or f"{summary.metric}, mean over prompts"
        found.append({"svg": svg, "width": round(width, 1), "caption": caption})
    return found


def _label(value: Any) -> str:
    """A value beside a picture, which has little room."""
    return printable(excerpt(axes.shown(value), _WIDE))


def _path(path: Path, start: Path) -> str:
    """A path from another folder, with slashes."""
    return Path(os.path.relpath(path, start)).as_posix()
