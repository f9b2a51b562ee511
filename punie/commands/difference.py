"""What differs, shown: as text for a terminal, and as JSON values. Of two runs, or of two sweeps."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tabulate import tabulate

from punie.util.printable import printable

if TYPE_CHECKING:
    from punie.results.comparison import Comparison
    from punie.results.difference import Difference, Side, StageChange
    from punie.sweep.comparison import Counted, SweepDifference

_LONGEST = 20
"""Rows of a table about a sweep."""
_SAME = "Nothing that decides the result differs."
_UNKNOWN = "Where they diverge is not known: a model or data is not here, or no stage reads what differs."


class Shown(Protocol):
    """A comparison, ready to be shown."""

    @property
    def same(self) -> bool:
        """Nothing that decides the result differs."""
        ...

    def text(self, outputs: bool) -> Iterator[str]:
        """Paragraphs; ``outputs`` asks for the answers themselves."""
        ...

    def json(self, outputs: bool) -> dict[str, Any]:
        """JSON values."""
        ...


@dataclass(frozen=True)
class Runs:
    """Two runs, or configs."""

    a: Side
    b: Side
    difference: Difference
    scores: Comparison | str | None
    """The answers compared, or why they are not; None unless both are runs."""

    @property
    def same(self) -> bool:
        """Nothing that decides the result differs."""
        return self.difference.same

    def text(self, outputs: bool) -> Iterator[str]:
        """Paragraphs; ``outputs`` asks for the answers themselves."""
        stages = self.difference.stages
        yield f"A  {self.a.name}\nB  {self.b.name}"
        if stages:
            yield f"first divergence: {_divergence(stages[0])}"
            yield _table("stages that differ", [[s.stage, _reason(s)] for s in stages], ["stage", "why"])
        elif self.same:
            yield _SAME
        else:
            yield _UNKNOWN
        for axis, changes in self.difference.axes.items():
            if changes:
                rows = [[change.key, _value(change.a), _value(change.b)] for change in changes]
                yield _table(axis, rows, ["", "A", "B"])
        yield from _scores(self.scores, outputs)

    def json(self, outputs: bool) -> dict[str, Any]:
        """JSON values."""
        return {
            "a": self.a.name,
            "b": self.b.name,
            "same": self.same,
            "first_divergence": self.difference.stages[0].stage if self.difference.stages else None,
            "stages": [dataclasses.asdict(stage) for stage in self.difference.stages],
            "axes": {axis: [*map(dataclasses.asdict, each)] for axis, each in self.difference.axes.items()},
            **_scores_json(self.scores, outputs),
        }


@dataclass(frozen=True)
class Sweeps:
    """Two sweeps."""

    a: tuple[str, int]
    """Its folder, and how many jobs it has."""
    b: tuple[str, int]
    difference: SweepDifference
    scores: Comparison | str | None
    """The answers of the matched jobs compared, or why they are not."""
    scored: int
    """How many of the matched jobs have answers in both."""

    @property
    def same(self) -> bool:
        """Every job has another to which nothing that decides the result differs."""
        return self.difference.same

    def text(self, outputs: bool) -> Iterator[str]:
        """Paragraphs; a difference that several jobs have stands once."""
        matched, stages = self.difference.matched, self.difference.stages
        pairs = len(matched.pairs)
        yield f"A  {self.a[0]}  ({self.a[1]} jobs)\nB  {self.b[0]}  ({self.b[1]} jobs)"
        by = f", by {', '.join(matched.by)}" if matched.by else ""
        yield f"jobs that belong together: {pairs}{by}"
        for end, jobs in zip("AB", matched.only, strict=True):
            if jobs:
                rows = [[side.name.rpartition("/")[2], _visible(place)] for side, place in jobs]
                yield _table(f"only in {end}: {len(jobs)}", rows, ["job", "place"], _LONGEST)
        if stages:
            yield f"first divergence: {_divergence(stages[0].what)} ({_share(stages[0], pairs)})"
            rows = [[each.what.stage, _reason(each.what), _share(each, pairs)] for each in stages]
            yield _table("stages that differ", rows, ["stage", "why", "jobs"], _LONGEST)
        elif self.same:
            yield _SAME
        elif pairs and (self.difference.axes["identity"] or self.difference.axes["data"]):
            yield _UNKNOWN
        for axis, changes in self.difference.axes.items():
            if changes:
                rows = [
                    [each.what.key, _value(each.what.a), _value(each.what.b), _share(each, pairs)]
                    for each in changes
                ]
                yield _table(axis, rows, ["", "A", "B", "jobs"], _LONGEST)
        if self.scored:
            yield f"The scores are means over {self.scored} jobs of each sweep."
        yield from _scores(self.scores, outputs)

    def json(self, outputs: bool) -> dict[str, Any]:
        """JSON values."""
        matched, stages = self.difference.matched, self.difference.stages
        return {
            "a": self.a[0],
            "b": self.b[0],
            "same": self.same,
            "matched_by": matched.by,
            "matched": [[a.name, b.name] for a, b in matched.pairs],
            "only_a": {side.name: place for side, place in matched.only[0]},
            "only_b": {side.name: place for side, place in matched.only[1]},
            "first_divergence": stages[0].what.stage if stages else None,
            "stages": [_counted(each) for each in stages],
            "axes": {axis: [*map(_counted, each)] for axis, each in self.difference.axes.items()},
            "scored_jobs": self.scored,
            **_scores_json(self.scores, outputs),
        }


def _share(each: Counted, jobs: int) -> str:
    return f"{each.jobs} of {jobs}" if jobs else "–"


def _counted(each: Counted) -> dict[str, Any]:
    return {**dataclasses.asdict(each.what), "jobs": each.jobs}


def _scores(scores: Comparison | str | None, outputs: bool) -> Iterator[str]:
    if isinstance(scores, str):
        yield f"The scores are not compared: {_visible(scores)}."
    elif scores is not None:
        yield from _comparison(scores, outputs)


def _divergence(change: StageChange) -> str:
    if change.state == "bytes":
        return f"{change.stage}, though its key is the same: {_reason(change)}"
    return (
        f"{change.stage}, because {_reason(change)}"
        if change.changes
        else f"{change.stage}: {_reason(change)}"
    )


def _reason(change: StageChange) -> str:
    if change.state.startswith("only"):
        return f"in {change.state[-1].upper()} only"
    if change.state == "bytes":
        return "other bytes in " + ", ".join(file.key for file in change.changes)
    shown = [f"{c.key} {_value(c.a)} → {_value(c.b)}" for c in change.changes]
    shown += [f"{stage} differs" for stage in change.upstream]
    return ", ".join(shown) or "its key differs, and what it was made from is no longer in the store"


def _comparison(scores: Comparison, outputs: bool) -> Iterator[str]:
    from punie.results.power import reach, reach_in_words

    rows, notes = [], []
    for name, test in scores.paired.items():
        mean_a, mean_b = scores.means[name]
        gap, count = test.difference, len(test.differences)
        row = [name, f"{mean_a:.3f}", f"{mean_b:.3f}", f"{gap.estimate:+.3f}"]
        row += [f"{gap.low:+.3f} to {gap.high:+.3f}", f"{test.p_value:.3f}"]
        rows.append([*row, f"{test.up} / {test.down} / {test.unchanged}"])
        notes.append(f"{name}: {reach_in_words(count, gap.estimate, reach(test)[0])}.")
    head = ["", "A", "B", "B - A", "95 % interval", "p", "up / down / same"]
    if scores.left_out:
        notes.append(f"Left out, for want of an answer in A or B: {_visible(', '.join(scores.left_out))}.")
    yield "\n".join([_table("scores", rows, head), *notes])
    if not scores.changed:
        return
    rows = []
    for prompt in scores.changed:
        moved = [f"{before:.2f} → {after:.2f}" for before, after in prompt.scores.values()]
        answer = " → ".join(dict.fromkeys(prompt.taxonomy))
        rows.append([_visible(text) for text in (prompt.id, prompt.category, *moved, answer)])
    yield _table(f"prompts that changed: {len(rows)}", rows, ["prompt", "category", *scores.paired, "answer"])
    if outputs:
        width = max(20, (shutil.get_terminal_size((120, 24)).columns - 4) // 2)
        for prompt in scores.changed:
            sides = [[_visible("\n---\n".join(side)) for side in prompt.outputs]]
            body = tabulate(
                sides,
                ["A", "B"],
                "simple",
                disable_numparse=True,
                maxcolwidths=width,
                preserve_whitespace=True,
            )
            yield f"{prompt.id}: {_visible(prompt.prompt)}\n{body}"


def _table(title: str, rows: Sequence[Sequence[str]], head: Sequence[str], longest: int | None = None) -> str:
    more = len(rows) - len(rows[:longest])
    body = tabulate(rows[:longest], head, "simple", disable_numparse=True)
    return f"{title}\n{body}" + (f"\n… and {more} more: --format json" if more else "")


def _value(value: object) -> str:
    """A value for a table: short, on one line."""
    from punie.store.keys import SHORT
    from punie.util.jsonl import excerpt

    if value is None:
        return "–"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", value):
        return value[:SHORT]
    return _visible(excerpt(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))


def _visible(text: str) -> str:
    """A model's output line by line, as a terminal can show it."""
    return "\n".join(map(printable, text.split("\n")))


def _scores_json(scores: Comparison | str | None, outputs: bool) -> dict[str, Any]:
    if scores is None or isinstance(scores, str):
        return {"scores": None, "not_compared": scores}
    changed = [dataclasses.asdict(prompt) for prompt in scores.changed]
    if not outputs:
        for prompt in changed:
            del prompt["outputs"]
    from punie.results.power import reach

    means: Mapping[str, tuple[float, float]] = scores.means
    return {
        "scores": {
            name: {
                **dict(zip("ab", means[name], strict=True)),
                **dataclasses.asdict(test),
                **dict(zip(("detectable", "needed"), reach(test), strict=True)),
            }
            for name, test in scores.paired.items()
        },
        "not_compared": None,
        "changed": changed,
        "left_out": scores.left_out,
    }
