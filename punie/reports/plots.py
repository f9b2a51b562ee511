"""Pictures, as SVG that stands inside an HTML page: the same bytes for the same figures, light or dark."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

_GREY = "#808080"
_COLOURED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_STYLE: dict[Any, Any] = dict.fromkeys(_COLOURED, _GREY) | {
    "svg.hashsalt": "punie",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
"""Grey can be read on white and on black; the salt makes identifiers the same every time."""
_TRUNCATIONS = {"top_p": ("top-p", 1.0), "top_k": ("top-k", 0), "min_p": ("min-p", 0.0)}


def lock_curves(lock: Mapping[str, Any]) -> str:
    """The exact format lock over temperatures, with the sampled rate and its 95 % interval.

    Args:
        lock: ``lock`` of results.json.

    Returns:
        An ``<svg>`` element.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.0), layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        for curve in lock["curves"]:
            axes.plot(lock["temperatures"], curve["total"], label=truncation_name(curve), linewidth=1.8)
        here, sampled = lock["at"]["temperature"], lock["at"]["sampled"]
        low, high = sampled["interval"]
        rate = sampled["rate"]
        axes.errorbar(
            [here], [rate], [[rate - low], [high - rate]],
            fmt="o", color="#b3402a", capsize=3, label="sampled, 95 % interval",
        )  # fmt: skip
        axes.set(xlabel="temperature", ylabel="probability", ylim=(-0.03, 1.03))
        axes.legend(frameon=False, loc="lower left")
        page = io.StringIO()
        FigureCanvasSVG(figure).print_svg(page, metadata={"Date": None, "Creator": None})
    return "<svg" + page.getvalue().partition("<svg")[2]


def truncation_name(curve: Mapping[str, Any]) -> str:
    """What a curve's sampler keeps, in words."""
    words = [f"{name} {curve[key]:g}" for key, (name, off) in _TRUNCATIONS.items() if curve[key] != off]
    return ", ".join(words) or "every token"
