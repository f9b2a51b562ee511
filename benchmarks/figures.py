"""What a benchmark finds: rows of docs/benchmarks.md, each printed and handed on as soon as it is known."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
HANDED_TO = "PUNIE_BENCHMARK_ROWS"
"""Environment variable with the file that rows are appended to, as JSON lines; ``make bench`` sets it."""
HEADERS = ("", "punie", "peer", "ratio (min–max; rounds)", "aim")


@dataclass(frozen=True)
class Spread:
    """The middle of several figures, and the outermost two."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One claim: what punie took in each round, and what its peer took in the same rounds."""

    what: str
    ours: Sequence[float]
    unit: str = ""
    peer: Sequence[float] = ()
    """As many as ``ours``, in the same order, or one for all; several where ``ours`` is one; or no peer."""
    command: str = ""
    """The peer's exact command, with the working folder taken off its paths."""
    at_least: float | None = None
    at_most: float | None = None
    """What the ratio should be, or without a peer the figure."""

    @property
    def ratio(self) -> Spread | None:
        """Ours over the peer's: the medians' ratio, and the smallest and largest of the rounds'.

        Where less is wanted of a time, that is all; a time that should be so many times *shorter* has the
        peer's over ours, so that it says how many times faster punie is.
        """
        if not self.peer:
            return None
        over, under = (self.peer, self.ours) if self._faster else (self.ours, self.peer)
        count = max(len(over), len(under))
        pairs = zip(_stretched(over, count), _stretched(under, count), strict=True)
        ratios = [a / b for a, b in pairs]
        return Spread(statistics.median(over) / statistics.median(under), min(ratios), max(ratios))

    @property
    def figure(self) -> Spread:
        """What the aim is about: the ratio or, without a peer, the figure itself."""
        return self.ratio or Spread(statistics.median(self.ours), min(self.ours), max(self.ours))

    @property
    def holds(self) -> bool | None:
        """Whether the median keeps the aim; None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= self.figure.median <= high

    @property
    def aim(self) -> str:
        """The aim in words, with its unit where it is a figure of ours."""
        unit = f" {self.unit}" if self.unit and not self.peer else ""
        if self.at_least is not None and self.at_least == self.at_most:
            return f"= {self.at_least:g}{unit}"
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g} to {self.at_most:g}{unit}"
        if self.at_least is not None:
            return f"≥ {self.at_least:g}{unit}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}{unit}"

    @property
    def _faster(self) -> bool:
        return self.unit == "s" and self.at_least is not None and self.at_most is None

    def cells(self) -> list[str]:
        """The row of a table under ``HEADERS``."""
        unit, ratio, figure = f" {self.unit}" if self.unit else "", self.ratio, self.figure
        rounds = max(len(self.ours), len(self.peer))
        spread = f"({number(figure.low)}–{number(figure.high)}; n={rounds})"
        verdict = {True: "held", False: "**missed**", None: ""}[self.holds]
        return [
            self.what,
            f"{number(statistics.median(self.ours))}{unit}",
            f"{number(statistics.median(self.peer))}{unit}" if self.peer else "",
            " ".join([*([number(ratio.median)] if ratio else []), *([spread] if rounds > 1 else [])]),
            ", ".join(filter(None, [self.aim, verdict])),
        ]


def table(rows: Iterable[Row]) -> str:
    """Rows as a table of Markdown."""
    return tabulate([row.cells() for row in rows], HEADERS, tablefmt="github", disable_numparse=True)


def number(value: float) -> str:
    """Three digits, or all before the point: 0, 12, 0.141, 1.58, 12.3, 412, 1,771."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{3 if abs(value) < 1 else 2 if abs(value) < 10 else 1}f}"


def report(rows: Iterable[Row]) -> None:
    """Measure row after row; each is handed on when it is known, all are printed as a table in the end."""
    found: list[Row] = []
    out = os.environ.get(HANDED_TO)
    try:
        for row in rows:
            found.append(row)
            print(" | ".join(filter(None, row.cells())), file=sys.stderr, flush=True)
            if out:
                with Path(out).open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n")
    finally:
        print("\n" + table(found))


@dataclass(frozen=True)
class Run:
    """What a process took."""

    seconds: float
    processor: float
    """Seconds of processor time, user and system."""
    memory: float
    """Its peak resident size, or of a process that it waited for the larger; MB."""
    out: str
    """Its standard output."""


def run(*command: object, cwd: Path | None = None, code: int = 0) -> Run:
    """Run a process to its end.

    Raises:
        SystemExit: It ended with another code; the message has what it said.
    """
    words = [str(word) for word in command]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    clock = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(words, stdout=out, stderr=err, cwd=cwd, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - clock
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != code:
            said = err.read().decode(errors="replace")
            raise SystemExit(f"{shown(words)[:200]}\nended with {process.returncode}:\n{said}")
        unit = 1e6 if sys.platform == "darwin" else 1e3
        return Run(
            seconds,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / unit,
            out.read().decode(errors="replace"),
        )


def punie(*arguments: object, cwd: Path | None = None, code: int = 0) -> Run:
    """Run the front door to its end."""
    return run(sys.executable, "-m", "punie", *arguments, cwd=cwd, code=code)


def shown(command: Sequence[object], *folders: Path) -> str:
    """A command as a reader could type it in the checkout: no path above it, none above these folders."""
    text = " ".join("python" if word == sys.executable else str(word) for word in command)
    for folder in (*folders, ROOT):
        text = text.replace(f"{folder}/", "")
    return text


def _stretched(values: Sequence[float], count: int) -> Sequence[float]:
    return list(values) * count if len(values) == 1 else values
