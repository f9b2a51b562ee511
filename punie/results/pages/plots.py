"""Pictures, as SVG that stands inside an HTML page: the same bytes for the same figures, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY, _BLUE, _AMBER, _RED = "#808080", "#3567b5", "#b8860b", "#b3402a"
_PROPERTIES = {_GREY: "--muted", _BLUE: "--accent", _AMBER: "--amber", _RED: "--bad"}
"""The page's custom property for each colour, which itself can be read on white and on black."""
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
"""The salt makes identifiers the same every time."""
_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_TRUNCATIONS = {"top_p": ("top-p", 1.0), "top_k": ("top-k", 0), "min_p": ("min-p", 0.0)}


class Picture:
    """An SVG in the making: ``axes`` to draw on, and then its ``text``."""

    axes: Axes
    text: str = ""


@contextmanager
def picture(label: str, *, height: float, width: float = 7.2) -> Generator[Picture]:
    """Draw on the axes it yields; afterwards ``text`` is an ``<svg>`` element.

    Colours become custom properties of the page where it has them, and identifiers that nothing refers to
    are left out, so that several pictures can stand on one page.

    Args:
        label: What the picture shows, for who cannot see it.
        height: In inches, as ``width``: their ratio and the size of the text in it count.
        width: The page makes it as wide as there is room.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        made = Picture()
        made.axes = figure.add_subplot(facecolor="none")
        yield made
        page = io.StringIO()
        with warnings.catch_warnings():  # it draws no glyphs, so none can be missing
            warnings.filterwarnings("ignore", "Glyph .* missing")
            FigureCanvasSVG(figure).print_svg(page, metadata=_METADATA)
    _, _, text = page.getvalue().partition("<svg")
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    # Namespaces are of no use inside HTML, and a size in points would keep it from shrinking.
    attributes = f'role="img" aria-label={quoteattr(label)}'
    text = re.sub(r'[^>]*?(viewBox="[^"]*")[^>]*', lambda tag: f" {attributes} {tag[1]}", text, count=1)
    for colour, name in _PROPERTIES.items():
        text = text.replace(colour, f"var({name}, {colour})")
    made.text = f"<svg{text}"


def standalone(svg: str) -> str:
    """The same picture as a file of its own, with the colours that it has where no page gives others.

    Args:
        svg: An ``<svg>`` element of this module.
    """
    colours = re.sub(r"var\(--[\w-]+, (#[0-9a-f]{6})\)", r"\1", svg)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return colours.replace("<svg", f'<svg {names} width="{width}pt" height="{height}pt"', 1) + "\n"


def category_scores(scores: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    """Both scores of every category and overall, strict with its 95 % interval, against the baseline.

    Args:
        scores: ``scores`` of results.json.
        baseline: ``overall`` and ``categories`` as published; None if there are none.

    Returns:
        An ``<svg>`` element.
    """
    published = (baseline or {}).get("categories", {}) | {"overall": (baseline or {}).get("overall")}
    strict, keyword = (
        {**scores[name]["categories"], "overall": scores[name]["overall"]} for name in ("strict", "keyword")
    )
    names = [name for name, each in strict.items() if each["mean"] is not None]
    with picture("Scores by category", height=0.9 + 0.42 * len(names)) as made:
        axes, rows = made.axes, range(len(names))
        means = [strict[name]["mean"] for name in names]
        reach = [
            [abs(strict[name]["interval"][end] - mean) for name, mean in zip(names, means, strict=True)]
            for end in (0, 1)
        ]
        axes.errorbar(
            means, [row + 0.13 for row in rows], xerr=reach,
            fmt="o", color=_BLUE, capsize=3, label="strict, 95 % interval", zorder=3,
        )  # fmt: skip
        axes.plot(
            [keyword[name]["mean"] for name in names], [row - 0.17 for row in rows],
            "D", color=_AMBER, markerfacecolor="none", label="keyword", zorder=3,
        )  # fmt: skip
        known = [(published[name], row) for row, name in enumerate(names) if published.get(name) is not None]
        if known:
            x, y = zip(*known, strict=True)
            axes.plot(x, y, "|", color=_GREY, markersize=16, markeredgewidth=2.5, label="baseline")
        if names[-1] == "overall":
            axes.axhline(len(names) - 1.5, color=_GREY, linewidth=0.8)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5), yticks=rows, yticklabels=names)
        axes.grid(axis="x", color=_GREY, alpha=0.25, linewidth=0.8)
        axes.tick_params(axis="y", length=0)
        _legend(axes)
    return made.text


def loss_curves(
    metrics: Sequence[Mapping[str, Any]], checkpoints: Sequence[int], selected: int
) -> str | None:
    """Training and validation loss over iterations, the checkpoints, and the one that was selected.

    Args:
        metrics: train.jsonl.
        checkpoints: Iterations at which one was saved.
        selected: The iteration whose weights are the adapter.

    Returns:
        An ``<svg>`` element; None where there are not two points to draw a line between.
    """
    points = [record for record in metrics if record.get("loss") is not None]
    if len(points) < 2:
        return None
    with picture("Training and validation loss by iteration", height=3.2) as made:
        axes = made.axes
        for kind, name, style in (("train", "training", "-"), ("valid", "validation", "o--")):
            line = [(record["iter"], record["loss"]) for record in points if record["kind"] == kind]
            axes.plot(
                [it for it, _ in line], [loss for _, loss in line],
                style, linewidth=1.8, markersize=4.5, label=name,
            )  # fmt: skip
        axes.axvline(selected, color=_GREY, linestyle=":", label=f"selected: iteration {selected}", zorder=0)
        axes.plot(
            checkpoints, [0.0] * len(checkpoints), "^",
            color=_GREY, transform=axes.get_xaxis_transform(), clip_on=False, label="checkpoint",
        )  # fmt: skip
        losses = [record["loss"] for record in points]
        if min(losses) > 0 and max(losses) > 10 * min(losses):
            from matplotlib.ticker import LogLocator, NullLocator

            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(bottom=0)
        axes.set(xlabel="iteration", ylabel="nats per token")
        axes.grid(axis="y", color=_GREY, alpha=0.25, linewidth=0.8)
        _legend(axes)
    return made.text


def lock_curves(lock: Mapping[str, Any]) -> str:
    """The exact format lock over temperatures, with the sampled rate and its 95 % interval.

    Args:
        lock: ``lock`` of results.json.

    Returns:
        An ``<svg>`` element.
    """
    with picture("Format lock by temperature", height=3.2) as made:
        axes = made.axes
        for curve in lock["curves"]:
            axes.plot(lock["temperatures"], curve["total"], label=truncation_name(curve), linewidth=1.8)
        here, sampled = lock["at"]["temperature"], lock["at"]["sampled"]
        low, high = sampled["interval"]
        rate = sampled["rate"]
        axes.errorbar(
            [here], [rate], [[rate - low], [high - rate]],
            fmt="o", color=_RED, capsize=3, label="sampled, 95 % interval",
        )  # fmt: skip
        axes.set(xlabel="temperature", ylabel="probability", ylim=(-0.03, 1.03))
        axes.grid(axis="y", color=_GREY, alpha=0.25, linewidth=0.8)
        _legend(axes)
    return made.text


def heatmap(
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    row_label: str,
    column_label: str,
) -> str:
    """Scores over two axes, each with its text; a place without a score is left open.

    Args:
        values: From 0.0 to 1.0, (rows, columns); None where there is none.
        texts: What stands in each place, (rows, columns).
        rows: Names of the rows, from the top.
        columns: Names of the columns.
        row_label: What the rows are.
        column_label: What the columns are.

    Returns:
        An ``<svg>`` element, of paths and text alone.
    """
    import numpy as np

    table = np.array([[np.nan if value is None else value for value in row] for row in values], dtype=float)
    label = f"{row_label} by {column_label}" if column_label else row_label
    with picture(label, height=1.0 + 0.42 * len(rows), width=1.6 + 1.1 * len(columns)) as made:
        axes = made.axes
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
    return made.text


def truncation_name(curve: Mapping[str, Any]) -> str:
    """What a curve's sampler keeps, in words."""
    words = [f"{name} {curve[key]:g}" for key, (name, off) in _TRUNCATIONS.items() if curve[key] != off]
    return ", ".join(words) or "every token"


def _legend(axes: Axes) -> None:
    """Above the picture, where no data can be."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.3, columnspacing=1.4)
