"""Renders the templates of all documents: Markdown and HTML."""

from __future__ import annotations

import functools
from pathlib import Path

import jinja2
from markupsafe import Markup

from punie.results.pages.tables import in_markdown
from punie.results.pages.text import cell, code, fence, inline, share, visible, visible_html

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def environment(*, autoescape: bool) -> jinja2.Environment:
    """The Jinja environment of the templates. Hidden characters in any text they are given are made visible.

    Args:
        autoescape: True for HTML. In Markdown, text of a model stands in a fenced block or passes through
            :func:`inline`, and a value in a table passes through :func:`cell`.
    """
    show = visible_html if autoescape else visible
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,  # noqa: S701
        finalize=lambda value: (
            show(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {
        "share": share,
        "fence": fence,
        "cell": cell,
        "code": code,
        "inline": inline,
        "table": in_markdown,
        "sentence": lambda words: words[:1].upper() + words[1:],
        "plain": lambda value: "unset" if value is None else value,
    }
    return found


def page_style() -> Markup:
    """The style sheet of every page."""
    return Markup((TEMPLATES / "report.css").read_text("utf-8"))  # noqa: S704 - our own
