"""Progress on standard error: one line per stage, a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from punie.util.interrupts import check

if TYPE_CHECKING:
    from rich.console import Console

_LINE_EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""


class Bar(Protocol):
    """Shows how much of a long operation is done."""

    def __call__(self, done: int, note: str = "") -> None:
        """Show that ``done`` units are finished, with a note such as the loss."""


class Reporter:
    """Writes to standard error, so that standard output has results only."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console  # a plan reports nothing, and rich takes a while to import

        self.console = console or Console(stderr=True, highlight=False)

    def line(self, text: str, style: str | None = None) -> None:
        """Print a line; the style only shows on a terminal."""
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Generator[Bar]:
        """A progress bar over ``total`` units of work, with the time left.

        Raises:
            KeyboardInterrupt: From the bar, if a signal's exception was swallowed.
        """
        if self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("  {task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.console, transient=True) as progress:
                task = progress.add_task(what, total=total, note="")

                def update(done: int, note: str = "") -> None:
                    check()
                    progress.update(task, completed=done, note=note)

                yield update
            return
        began = last = time.monotonic()

        def print_line(done: int, note: str = "") -> None:
            nonlocal last
            check()
            now = time.monotonic()
            if now - last >= _LINE_EVERY:
                last = now
                left = f"  {(now - began) * (total - done) / done:.0f} s left" if done else ""
                self.line(f"  {what} {done}/{total} {unit}  {note}{left}")

        yield print_line
