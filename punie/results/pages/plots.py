"""Plots as SVG elements for HTML pages: the same bytes for the same figures, in light and dark mode."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from xml.sax.saxutils import quoteattr

from punie.evals.scores import heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from punie.results.records import Baseline, Lock, LockCurve, Metric, Score

_GREY, _BLUE, _AMBER, _RED = "#808080", "#3567b5", "#b8860b", "#b3402a"
_PROPERTIES = {_GREY: "--muted", _BLUE: "--accent", _AMBER: "--amber", _RED: "--bad"}
"""The page's custom property for each colour; the colours are legible on white and on black."""
_COLOURED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_STYLE: dict[Any, Any] = dict.fromkeys(_COLOURED, _GREY) | {
    "svg.hashsalt": "punie",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler(color={[_BLUE, _AMBER, _RED, _GREY]})",
    "legend.frameon": False,
}
"""The salt makes identifiers reproducible."""
MOST_POINTS = 200
"""Of a curve; more would only make the page large."""
_LINES = ("-", "--", ":")
_CURVES = {
    "learning_rate": "Learning rate",
    "gradient_norm": "Gradient norm",
    "tokens_per_second": "Tokens per second",
    "peak_memory_mb": "Peak memory, MB",
}
"""Figures of a training's records, with their names."""
T = TypeVar("T")
_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@contextmanager
def picture(label: str, *, height: float, width: float = 7.2) -> Generator[tuple[Axes, list[str]]]:
    """Draw on the axes it yields; afterwards the list it yields holds an ``<svg>`` element.

    Colours become the page's custom properties, and unused identifiers are removed, so that several pictures
    can stand on one page.

    Args:
        label: What the picture shows, for screen readers.
        height: Inches.
        width: Inches; the page scales the picture to the room it has.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        svg: list[str] = []
        yield figure.add_subplot(facecolor="none"), svg
        page = io.StringIO()
        with warnings.catch_warnings():  # text stays text, so no glyph is needed
            warnings.filterwarnings("ignore", "Glyph .* missing")
            FigureCanvasSVG(figure).print_svg(page, metadata=_METADATA)
    _, _, text = page.getvalue().partition("<svg")
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    # HTML needs no namespaces, and a size in points would keep the picture from shrinking.
    attributes = f'role="img" aria-label={quoteattr(label)}'
    text = re.sub(r'[^>]*?(viewBox="[^"]*")[^>]*', lambda tag: f" {attributes} {tag[1]}", text, count=1)
    for colour, name in _PROPERTIES.items():
        text = text.replace(colour, f"var({name}, {colour})")
    svg.append(f"<svg{text}")


def standalone(svg: str) -> str:
    """An ``<svg>`` element of this module as a file of its own, with the default colours."""
    colours = re.sub(r"var\(--[\w-]+, (#[0-9a-f]{6})\)", r"\1", svg)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return colours.replace("<svg", f'<svg {names} width="{width}pt" height="{height}pt"', 1) + "\n"


def category_scores(scores: Mapping[str, Score], baseline: Baseline | None) -> str:
    """An ``<svg>``: execution with its 95 % interval and keyword match by category, against the baseline."""
    published = {} if baseline is None else {**baseline.categories, "overall": baseline.overall}
    strict, keyword = (
        {**scores[name].categories, "overall": scores[name].overall} for name in ("strict", "keyword")
    )
    found = [(name, e.mean, *e.interval) for name, e in strict.items() if e.mean is not None and e.interval]
    names = [name for name, *_ in found]
    with picture("Scores by category", height=0.9 + 0.42 * len(names)) as (axes, svg):
        rows = range(len(names))
        errors = [[mean - low for _, mean, low, _ in found], [high - mean for _, mean, _, high in found]]
        axes.errorbar(
            [mean for _, mean, *_ in found], [row + 0.13 for row in rows], xerr=errors,
            fmt="o", color=_BLUE, capsize=3, label=f"{heading('strict')}, 95 % interval", zorder=3,
        )  # fmt: skip
        axes.plot(
            [keyword[name].mean for name in names], [row - 0.17 for row in rows],
            "D", color=_AMBER, markerfacecolor="none", label=heading("keyword"), zorder=3,
        )  # fmt: skip
        known = [(value, row) for row, name in enumerate(names) if (value := published.get(name)) is not None]
        if known:
            x, y = zip(*known, strict=True)
            axes.plot(x, y, "|", color=_GREY, markersize=16, markeredgewidth=2.5, label="baseline")
        if names[-1:] == ["overall"]:
            axes.axhline(len(names) - 1.5, color=_GREY, linewidth=0.8)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5), yticks=rows, yticklabels=names)
        axes.tick_params(axis="y", length=0)
        _finish(axes, "x")
    return svg[0]


def loss_curves(metrics: Sequence[Metric], checkpoints: Sequence[int], selected: int) -> str | None:
    """An ``<svg>``: training and validation loss by iteration. None with fewer than two points.

    Args:
        metrics: Of the training.
        checkpoints: Iterations at which one was saved.
        selected: The iteration whose weights are the adapter.
    """
    points = [(each.kind, each.iter, each.loss) for each in metrics if each.loss is not None]
    if len(points) < 2:
        return None
    with picture("Training and validation loss by iteration", height=3.2) as (axes, svg):
        for kind, name, style in (("train", "training", "-"), ("valid", "validation", "o--")):
            x, y = ([each[place] for each in points if each[0] == kind] for place in (1, 2))
            axes.plot(x, y, style, linewidth=1.8, markersize=4.5, label=name)
        axes.axvline(selected, color=_GREY, linestyle=":", label=f"selected: iteration {selected}", zorder=0)
        axes.plot(
            checkpoints, [0.0] * len(checkpoints), "^",
            color=_GREY, transform=axes.get_xaxis_transform(), clip_on=False, label="checkpoint",
        )  # fmt: skip
        losses = [loss for *_, loss in points]
        if min(losses) > 0 and max(losses) > 10 * min(losses):
            from matplotlib.ticker import LogLocator, NullLocator

            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(bottom=0)
        axes.set(xlabel="iteration", ylabel="nats per token")
        _finish(axes, "y")
    return svg[0]


def training_curves(metrics: Sequence[Metric]) -> list[str]:
    """An ``<svg>`` each for learning rate, gradient norm, speed and memory of a training, by iteration."""
    found = []
    for name, label in _CURVES.items():
        points = [(each.iter, y) for each in metrics if (y := getattr(each, name)) is not None]
        if len(points) < 2:
            continue
        with picture(f"{label} by iteration", height=1.9, width=3.5) as (axes, svg):
            axes.plot(*zip(*thinned(points), strict=True), linewidth=1.5)
            axes.set_title(label, fontsize="medium", color=_GREY)
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", scilimits=(-3, 5))
            axes.grid(axis="y", color=_GREY, alpha=0.25, linewidth=0.8)
        found += svg
    return found


def losses(runs: Mapping[str, Sequence[Metric]]) -> str:
    """An ``<svg>``: training loss, and validation loss as points, of several runs, by their labels."""
    with picture("Training and validation loss of the runs by iteration", height=3.6) as (axes, svg):
        for number, (label, metrics) in enumerate(runs.items()):
            style = _LINES[number // 4 % len(_LINES)]
            for kind, marker in (("train", ""), ("valid", "o")):
                points = [(m.iter, m.loss) for m in metrics if m.kind == kind and m.loss is not None]
                if points:
                    line: dict[str, Any] = (
                        {"label": label, "linestyle": style} if kind == "train" else {"linestyle": ""}
                    )
                    x, y = zip(*thinned(points), strict=True)
                    colour = f"C{number % 4}"
                    axes.plot(x, y, marker=marker, markersize=3.5, linewidth=1.4, color=colour, **line)
        axes.set(xlabel="iteration", ylabel="nats per token")
        axes.set_ylim(bottom=0)
        _finish(axes, "y")
    return svg[0]


def thinned(points: Sequence[T]) -> Sequence[T]:
    """At most ``MOST_POINTS`` of some points, evenly, the first and the last among them."""
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return points if step <= 1 else [points[round(index * step)] for index in range(MOST_POINTS)]


def lock_curves(lock: Lock) -> str:
    """An ``<svg>``: the exact format lock by temperature, and the sampled rate with its 95 % interval."""
    with picture("Format lock by temperature", height=3.2) as (axes, svg):
        for curve in lock.curves:
            axes.plot(lock.temperatures, curve.total, label=truncation_name(curve), linewidth=1.8)
        rate, (low, high) = lock.at.sampled.rate, lock.at.sampled.interval
        axes.errorbar(
            [lock.at.temperature], [rate], [[rate - low], [high - rate]],
            fmt="o", color=_RED, capsize=3, label="sampled, 95 % interval",
        )  # fmt: skip
        axes.set(xlabel="temperature", ylabel="probability", ylim=(-0.03, 1.03))
        _finish(axes, "y")
    return svg[0]


def heatmap(
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    row_label: str,
    column_label: str,
) -> str:
    """An ``<svg>``: scores over two axes, each cell with its text; a cell without a score has no colour.

    Args:
        values: From 0.0 to 1.0, (rows, columns); None where there is none.
        texts: Text of each cell, (rows, columns).
        rows: Names of the rows, from the top.
        columns: Names of the columns.
        row_label: Label of the rows' axis.
        column_label: Label of the columns' axis.
    """
    import numpy as np

    table = np.array([[np.nan if value is None else value for value in row] for row in values], dtype=float)
    label = f"{row_label} by {column_label}" if column_label else row_label
    with picture(label, height=1.0 + 0.42 * len(rows), width=1.6 + 1.1 * len(columns)) as (axes, svg):
        axes.pcolormesh(table, cmap="cividis", vmin=0.0, vmax=1.0, edgecolors=_GREY, linewidth=0.5)
        for row, cells in enumerate(texts):
            for column, text in enumerate(cells):
                value = table[row, column]
                colour = _GREY if np.isnan(value) else "black" if value > 0.45 else "white"
                axes.text(column + 0.5, row + 0.5, text, color=colour, ha="center", va="center")
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
        axes.set(xlabel=column_label, ylabel=row_label)
        axes.invert_yaxis()
        axes.tick_params(length=0)
    return svg[0]


def truncation_name(curve: LockCurve) -> str:
    """The tokens that a curve's sampler keeps, in words."""
    given = (("top-p", curve.top_p, 1.0), ("top-k", curve.top_k, 0), ("min-p", curve.min_p, 0.0))
    return ", ".join(f"{name} {value:g}" for name, value, off in given if value != off) or "every token"


def _finish(axes: Axes, across: Literal["x", "y"]) -> None:
    """Draw grid lines across an axis, and the legend above the data."""
    axes.grid(axis=across, color=_GREY, alpha=0.25, linewidth=0.8)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.3, columnspacing=1.4)
