"""The documents of a run: report.md and a self-contained report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from tabulate import tabulate

from punie.reports.plots import lock_curves, truncation_name

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Facts:
    """All that a run's documents show."""

    name: str
    model: str
    data: str
    suite: str
    phase: Mapping[str, Any] | None
    results: Mapping[str, Any]
    """results.json: scores, sampling, identity, verdict, artifacts."""
    samples: Sequence[Mapping[str, Any]]
    """samples.jsonl."""
    metrics: Sequence[Mapping[str, Any]]
    """train.jsonl; empty when nothing was trained."""
    info: Mapping[str, Mapping[str, Any]]
    """What each stage recorded in its manifest."""
    settings: Mapping[str, Any]
    """The config fields that decided the artifacts, by dotted name."""


def score_table(
    results: Mapping[str, Any], baseline: Mapping[str, Any] | None
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the score table: overall and by category, both scores, the baseline's.

    Args:
        results: As in results.json.
        baseline: ``overall`` and ``categories`` as published; None if there are none.
    """
    keyword, strict = results["scores"]["keyword"], results["scores"]["strict"]
    headers = ["category", "n", "keyword", "strict"] + (["baseline"] if baseline else [])

    def row(name: str, pick: Any, published: float | None) -> list[str]:
        cells = [name, str(pick(keyword)["n"]), _share(pick(keyword)["mean"]), _share(pick(strict)["mean"])]
        return cells + ([_share(published)] if baseline else [])

    published = (baseline or {}).get("categories", {})
    rows = [
        row(name, lambda score, name=name: score["categories"][name], published.get(name))
        for name in keyword["categories"]
    ]
    rows.append(row("overall", lambda score: score["overall"], (baseline or {}).get("overall")))
    return headers, rows


def terminal(results: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    """The score table and the verdict, for a terminal."""
    headers, rows = score_table(results, baseline)
    table = tabulate(
        rows,
        headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=["left"] + ["right"] * (len(headers) - 1),
    )
    sampling = results["sampling"]
    lines = [
        table,
        "",
        f"temperature {sampling['temperature']:g}, seed {sampling['seed']}, strict {interval(results)}",
    ]
    if "lock" in results:
        lines.append(lock_sentence(results["lock"]))
    lines += [paired_sentence(each) for each in results["paired"]]
    if results["identity"]["unverified"]:
        lines.append(f"identity: unverified ({results['identity']['unverified']})")
    return "\n".join([*lines, results["verdict"]["summary"]])


def lock_sentence(lock: Mapping[str, Any]) -> str:
    """The format lock at the run's own sampling, exact and sampled."""
    at = lock["at"]
    low, high = at["sampled"]["interval"]
    return (
        f"format lock {at['total']:.3f} exactly, {at['sampled']['rate']:.3f} sampled "
        f"(95 % interval {low:.2f} to {high:.2f}); smallest margin {lock['margin']['value']:.2f} logits"
    )


def paired_sentence(pair: Mapping[str, Any]) -> str:
    """A comparison of two targets."""
    low, high = pair["interval"]
    return (
        f"{pair['score']}, {pair['before']} → {pair['after']}: {pair['difference']:+.3f} "
        f"(95 % interval {low:+.2f} to {high:+.2f}, "
        f"sign-flip p = {pair['p_value']:.2g}); {len(pair['up'])} of {pair['prompts']} prompts up, "
        f"{len(pair['down'])} down"
    )


def interval(results: Mapping[str, Any]) -> str:
    """The strict score with its 95 % interval, in words."""
    overall = results["scores"]["strict"]["overall"]
    if overall["mean"] is None:
        missing = results["scores"]["missing"]["count"]
        return f"none: {missing} of {results['generation']['samples']} answers are missing"
    low, high = overall["interval"]
    return f"{overall['mean']:.3f}, 95 % interval {low:.2f} to {high:.2f}"


def markdown(facts: Facts) -> str:
    """report.md."""
    return _render("report.md.jinja", facts, autoescape=False)


def html(facts: Facts) -> str:
    """report.html: one file, no network, no scripts; everything from the model is escaped."""
    return _render("report.html.jinja", facts, autoescape=True)


def _render(template: str, facts: Facts, *, autoescape: bool) -> str:
    baseline = (facts.phase or {}).get("baseline")
    headers, rows = score_table(facts.results, baseline)
    cells = [[cell(value) for value in row] for row in rows]
    lock = facts.results.get("lock")
    return (
        environment(autoescape=autoescape)
        .get_template(template)
        .render(
            **asdict(facts),
            headers=headers,
            rows=rows,
            table=tabulate(cells, headers, tablefmt="github", disable_numparse=True),
            interval=interval(facts.results),
            curve=_curve(facts.metrics),
            lock_sentence=lock_sentence,
            paired_sentence=paired_sentence,
            lock_svg=lock_curves(lock) if lock and autoescape else None,
        )
    )


def environment(*, autoescape: bool) -> jinja2.Environment:
    """Where the templates of all documents are rendered.

    Args:
        autoescape: For HTML. In Markdown the model's own text is always in a fenced block, and what
            stands in a table passes through :func:`cell`.
    """
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,  # noqa: S701
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {
        "share": _share,
        "fence": _fence,
        "cell": cell,
        "truncation": truncation_name,
        "plain": lambda value: "unset" if value is None else value,
    }
    return found


def cell(value: object) -> str:
    """A value as it can stand in a Markdown table: on one line, without ending its cell."""
    return " ".join(str(value).splitlines()).replace("|", "\\|")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _fence(text: str) -> str:
    """A fenced block that the text cannot close."""
    longest = max((len(run) for run in _runs(text, "`")), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}\n{text}\n{marks}"


def _runs(text: str, mark: str) -> list[str]:
    found, run = [], ""
    for char in text + "\0":
        if char == mark:
            run += char
        elif run:
            found.append(run)
            run = ""
    return found


def _curve(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Loss curves as polylines in a 600 x 200 box, with the axes' ends."""
    points = [record for record in metrics if record.get("loss") is not None]
    if len(points) < 2:
        return None
    last = max(record["iter"] for record in points) or 1
    top = max(record["loss"] for record in points) or 1.0
    lines = {
        kind: " ".join(
            f"{600 * record['iter'] / last:.1f},{200 - 195 * record['loss'] / top:.1f}"
            for record in points
            if record["kind"] == kind
        )
        for kind in ("train", "valid")
    }
    return {"lines": lines, "last": last, "top": round(top, 3)}
