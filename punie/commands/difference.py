"""Shows a comparison of two runs or two sweeps, as text for a terminal and as JSON values."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from punie.store.keys import SHORT
from punie.util.jsonl import excerpt
from punie.util.printable import printable

if TYPE_CHECKING:
    from punie.results.comparison import Comparison
    from punie.results.difference import Change, Difference, Matched, StageChange

_LONGEST = 20
"""Rows of a table about a sweep."""


@dataclass(frozen=True)
class Shown:
    """A comparison, ready to be shown."""

    names: tuple[str, str]
    difference: Difference
    scores: Comparison | str | None
    """The responses compared, or why they are not; None unless both are runs."""
    matched: Matched | None = None
    """The paired jobs of two sweeps; None for two runs."""
    scored: int = 0
    """Pairs of jobs that have responses in both."""

    def text(self, outputs: bool) -> Iterator[str]:
        """Paragraphs; ``outputs`` asks for the responses themselves."""
        stages, axes, matched = self.difference.stages, self.difference.axes, self.matched
        if matched:
            counts = [f"({len(matched.pairs) + len(only)} jobs)" for only in matched.only]
            ends = zip("AB", self.names, counts, strict=True)
            yield "\n".join(f"{end}  {name}  {count}" for end, name, count in ends)
            by = f", by {', '.join(matched.by)}" if matched.by else ""
            yield f"paired jobs: {len(matched.pairs)}{by}"
            for end, only in zip("AB", matched.only, strict=True):
                rows = [[side.name.rpartition("/")[2], _visible(values)] for side, values in only]
                if rows:
                    yield _table(f"only in {end}: {len(only)}", rows, ["job", "values"], _LONGEST)
        else:
            yield "A  {}\nB  {}".format(*self.names)
        if stages:
            count = f" ({self._share(stages[0])})" if matched else ""
            joint = ", because" if stages[0].changes else ":"
            yield f"first divergence: {stages[0].stage}{joint} {_reason(stages[0])}{count}"
            rows = [[stage.stage, _reason(stage)] for stage in stages]
            yield self._table("stages that differ", rows, ["stage", "why"], stages)
        elif self.difference.same:
            yield "Nothing that decides the result differs."
        elif (axes["identity"] or axes["data"]) and (matched is None or matched.pairs):
            yield "First divergence unknown: a model or data is not here, or no stage reads what differs."
        for axis, changes in axes.items():
            if changes:
                rows = [[change.key, _value(change.a), _value(change.b)] for change in changes]
                yield self._table(axis, rows, ["", "A", "B"], changes)
        if self.scored:
            yield f"The scores are means over {self.scored} jobs of each sweep."
        if isinstance(self.scores, str):
            yield f"The scores are not compared: {_visible(self.scores)}."
        elif self.scores is not None:
            yield from _scores(self.scores, outputs, self.scored)

    def json(self, outputs: bool) -> dict[str, Any]:
        """JSON values."""
        matched, (first, *_) = self.matched, (*self.difference.stages, None)
        found: dict[str, Any] = {
            "a": self.names[0],
            "b": self.names[1],
            "first_divergence": first and first.stage,
            **dataclasses.asdict(self.difference),
        }
        if matched:
            found |= {
                "matched_by": matched.by,
                "matched": [[a.name, b.name] for a, b in matched.pairs],
                "only_a": {side.name: values for side, values in matched.only[0]},
                "only_b": {side.name: values for side, values in matched.only[1]},
                "scored_jobs": self.scored,
            }
        return {**found, **_scores_json(self.scores, outputs)}

    def _share(self, each: Change | StageChange) -> str:
        return f"{each.jobs} of {len(self.matched.pairs)}" if self.matched and self.matched.pairs else "–"

    def _table(
        self, title: str, rows: list[list[str]], head: list[str], found: Sequence[Change | StageChange]
    ) -> str:
        """A table of differences; of sweeps with the number of jobs that have each."""
        if self.matched is None:
            return _table(title, rows, head)
        rows = [[*row, self._share(each)] for row, each in zip(rows, found, strict=True)]
        return _table(title, rows, [*head, "jobs"], _LONGEST)


def _reason(change: StageChange) -> str:
    if change.state.startswith("only"):
        return f"in {change.state[-1].upper()} only"
    if change.state == "bytes":
        return "other bytes of the same key in " + ", ".join(file.key for file in change.changes)
    shown = [f"{c.key} {_value(c.a)} → {_value(c.b)}" for c in change.changes]
    shown += [f"{stage} differs" for stage in change.upstream]
    return ", ".join(shown) or "its key differs; the store no longer has what would say why"


def _scores(scores: Comparison, outputs: bool, jobs: int) -> Iterator[str]:
    from punie.evals.scores import SCORERS, heading
    from punie.results.pages.tables import rate_in_words
    from punie.results.power import detectable, detectable_in_words

    rows, notes = [], []
    for name, test in scores.paired.items():
        mean_a, mean_b = scores.means[name]
        gap, count = test.difference, len(test.differences)
        title = heading(name) if name in scores.rates else name
        row = [title, f"{mean_a:.3f}", f"{mean_b:.3f}", f"{gap.estimate:+.3f}"]
        row += [f"{gap.low:+.3f} to {gap.high:+.3f}", f"{test.p_value:.3f}"]
        rows.append([*row, f"{test.up} / {test.down} / {test.unchanged}"])
        notes.append(
            f"{title}: {detectable_in_words(count, test.up + test.down, gap.estimate, detectable(test)[0])}."
        )
    if jobs > 1:
        notes.append(
            "p is for these trained models; punie summarize A B also takes training seeds as random."
        )
    if scores.left_out:
        notes.append(f"Left out, without a response in A or B: {_visible(', '.join(scores.left_out))}.")
    head = ["", "A", "B", "B - A", "95 % interval", "p", "up / down / same"]
    yield "\n".join([_table("scores", rows, head), *notes])
    rows = [[heading(name), *map(rate_in_words, both)] for name, both in scores.rates.items()]
    if rows:
        yield _table("wrong decisions to call, with 95 % intervals", rows, ["", "A", "B"])
    if not scores.changed:
        return
    rows = []
    for prompt in scores.changed:
        moved = [f"{before:.2f} → {after:.2f}" for before, after in prompt.scores.values()]
        taxonomy = " → ".join(dict.fromkeys(prompt.taxonomy))
        rows.append([_visible(text) for text in (prompt.id, prompt.category, *moved, taxonomy)])
    head = ["prompt", "category", *(name for name in scores.paired if name in SCORERS), "response"]
    yield _table(f"prompts that changed: {len(rows)}", rows, head)
    width = max(20, (shutil.get_terminal_size((120, 24)).columns - 4) // 2)
    for prompt in scores.changed if outputs else ():
        cells = [[_visible("\n---\n".join(each)) for each in prompt.outputs]]
        title = f"{prompt.id}: {_visible(prompt.prompt)}"
        yield _table(title, cells, ["A", "B"], maxcolwidths=width, preserve_whitespace=True)


def _table(
    title: str, rows: Sequence[Sequence[str]], head: Sequence[str], longest: int | None = None, **options: Any
) -> str:
    more = len(rows) - len(rows[:longest])
    body = tabulate(rows[:longest], head, "simple", disable_numparse=True, **options)
    return f"{title}\n{body}" + (f"\n… and {more} more: --format json" if more else "")


def _value(value: object) -> str:
    """A value for a table: short, on one line."""
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
    from punie.results.power import detectable

    changed = [dataclasses.asdict(prompt) for prompt in scores.changed]
    for prompt in changed if not outputs else ():
        del prompt["outputs"]
    tests = {}
    for name, test in scores.paired.items():
        (a, b), (smallest, needed) = scores.means[name], detectable(test)
        tests[name] = {"a": a, "b": b, **dataclasses.asdict(test), "detectable": smallest, "needed": needed}
    rates = {name: [each.model_dump() for each in both] for name, both in scores.rates.items()}
    found = {"scores": tests, "rates": rates, "not_compared": None, "changed": changed}
    return {**found, "left_out": scores.left_out}
