"""The tables of a summary: scores, recipes, comparisons, categories, taxonomy, prompts that flip, gaps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from punie.evals.scores import RATES, ROUNDING, heading
from punie.results.config import TEMPERATURE
from punie.results.records import DECISIONS
from punie.results.statistics import Interval
from punie.results.summary import axes
from punie.results.summary.axes import Axis
from punie.results.summary.collect import RunScores, turn_names
from punie.results.summary.conclusions import clipped, p_in_words
from punie.results.summary.findings import (
    Cell,
    Contrast,
    Finding,
    Recipe,
    cell,
    in_text,
    interval,
    prompt_means,
)


@dataclass(frozen=True)
class Table:
    """A table, of texts."""

    name: str
    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """Scores by the values of some axes."""

    rows: tuple[str, ...]
    """Fields of the row headers."""
    column: str | None
    """Field of the columns; None for a single one."""
    columns: tuple[Any, ...]
    places: tuple[tuple[Any, ...], ...]
    """Values of the row headers."""
    cells: tuple[tuple[Cell, ...], ...]
    """(places, columns)."""
    pooled: tuple[str, ...]
    """Axes that are neither: a cell is the mean over their values."""


def grid(runs: Sequence[RunScores], found: Sequence[Axis], by: Sequence[str], metric: str) -> Grid:
    """The scores by two axes: those asked for, or the temperatures as columns and every other axis as rows.

    Args:
        runs: All runs; one without a score leaves a gap that says why.
        found: The axes.
        by: One or two fields; none for the default.
        metric: Which score.
    """
    keys = [axis.key for axis in found]
    column = TEMPERATURE if TEMPERATURE in keys and len(keys) > 1 else None
    rows = tuple(key for key in keys if key != column)
    if by:
        rows, column = (by[0],), by[1] if len(by) > 1 else None
    groups: dict[tuple[tuple[Any, ...], Any], list[RunScores]] = defaultdict(list)
    for run in runs:
        if run.config:
            value = run.config.comparable(column) if column else None
            groups[axes.values(run.config, rows), value].append(run)
    places = sorted({place for place, _ in groups}, key=axes.rank)
    columns = axes.ordered({each for _, each in groups})
    cells = (tuple(cell(groups.get((place, each), []), metric) for each in columns) for place in places)
    pooled = (axis.key for axis in found if not {axis.key, *axis.also} & {*rows, column})
    return Grid(rows, column, tuple(columns), tuple(places), tuple(cells), tuple(pooled))


def scores(found: Grid, metric: str) -> Table:
    """The grid as a table."""
    notes = ["Mean over prompts with Wilson's 95 % interval (a prompt is a trial)."]
    if found.pooled:
        notes.append(f"Each cell is the mean over {', '.join(found.pooled)}.")
    name = (found.column or "").rpartition(".")[2]
    heads = [f"{name} {axes.shown(each)}" for each in found.columns] if name else [metric]
    rows = (
        (*map(axes.shown, place), *map(str, row))
        for place, row in zip(found.places, found.cells, strict=True)
    )
    return Table("scores", f"Scores: {metric}", (*found.rows, *heads), tuple(rows), tuple(notes))


def findings(found: Sequence[Finding], metric: str) -> Table:
    """A row for each recipe and temperature."""
    rows = [
        {
            "recipe": each.recipe,
            "temperature": f"{each.temperature:g}",
            "seeds": str(len(each.seeds)),
            "mean": f"{each.mean:.3f}",
            "confidence interval": _range(each.interval),
            "sd of seeds": _or_dash(each.spread.stdev if each.spread else None, ".3f"),
            "prediction interval": _range(each.spread.prediction if each.spread else None),
            "pass^1, 2, ...": ", ".join(f"{value:.2f}" for value in each.pass_hat.values()) or "–",
        }
        for each in found
    ]
    note = "Both are 95 % intervals: over prompts and seeds; for a new seed mean ± t·s·√(1 + 1/S)."
    return _table("recipes", f"Recipes: {metric}", rows, [note])


def contrasts(found: Sequence[Contrast]) -> Table:
    """A row for each comparison, with its minimum detectable difference."""
    rows = [
        {
            "among": each.family,
            "from → to": f"{each.a} → {each.b}",
            "difference": f"{each.test.difference.estimate:+.3f}",
            "95 % interval": "[{:+.2f}, {:+.2f}]".format(*clipped(each.difference, -1.0)),
            "p, these seeds": p_in_words(each.test.p_value),
            "p, new seeds": p_in_words(each.p_value) if each.crossed else "",
            "p, Holm": p_in_words(each.adjusted),
            **({f"{each.beside[0]}": f"{each.beside[1]:+.3f}"} if each.beside else {}),
            "prompts": str(len(each.test.differences)),
            "seeds": str(each.seeds),
            "detectable": _or_dash(each.detectable, ".2f") if each.test.discordance else "",
        }
        for each in found
    ]
    for row in rows:  # a dash only where another row has a figure
        row |= {head: row[head] or "–" for head in row if any(other.get(head) for other in rows)}
    notes = (
        "Paired by prompt. p, these seeds: sign-flip test; prompts are random, the trained models are not.",
        "p, new seeds: prompts and training seeds are random; a difference has to hold in both tests.",
        "p, Holm: adjusted for the comparisons of the family.",
        "Detectable: the minimum detectable difference at 80 % power; – where not even 1.0 is.",
        "The interval is for similar prompts: where it and p disagree about 0, p counts.",
    )
    return _table("comparisons", "Comparisons", rows, notes)


def categories(recipes: Sequence[Recipe], metric: str) -> Table:
    """Each category's score by temperature, over all seeds."""
    rows, heads = [], _temperatures(recipes, metric)
    for recipe in recipes:
        by_name: dict[str, dict[float, dict[str, Any]]] = {}
        for at, table in recipe.tables(metric).items():
            for prompt, row in table.items():
                by_name.setdefault(row[0], {}).setdefault(at, {})[prompt] = row
        for name, tables in by_name.items():
            cells = {head: in_text(interval(tables.get(at, {}))) for at, head in heads.items()}
            prompts = str(max(map(len, tables.values())))
            rows.append({"recipe": recipe.label, "category": name, "prompts": prompts, **cells})
    return _table("categories", f"Categories: {metric}", rows, ["Over all seeds."])


def rates(recipes: Sequence[Recipe]) -> Table:
    """The rates of wrong decisions to call by temperature, over all seeds."""
    rows = _counts(recipes, {rate: heading(rate) for rate in RATES})
    return _table(
        "rates", "Wrong decisions to call", rows, ["Over all seeds; the intervals are over prompts."]
    )


def turns(recipes: Sequence[Recipe]) -> Table:
    """How often each turn of conversations was right by temperature, over all seeds."""
    runs = [run for recipe in recipes for each in recipe.runs.values() for run in each]
    found = {name for run in runs for prompt in (run.prompts or {}).values() for name in prompt.scores}
    names: list[str] = []
    while found & {*(following := turn_names(len(names) // 2 + 1))}:
        names += following
    rows = _counts(recipes, dict(zip(names, names, strict=True)))
    return _table(
        "turns", "Conversations by turn: right", rows, ["A turn is asked if all before it are right."]
    )


def ships(recipes: Sequence[Recipe]) -> Table:
    """The decisions whether to ship by temperature: their number over all seeds, and what was not met."""
    rows = []
    for recipe in recipes:
        for temperature, runs in recipe.runs.items():
            found = [run.ship for run in runs if run.ship]
            decisions = Counter(each.decision for each in found)
            unmet = Counter(heading(r.metric) for each in found for r in each.rows if r.met is not True)
            words = ", ".join(f"{name} ({number})" for name, number in unmet.most_common()) or "–"
            counts = {name: str(decisions[name]) for name in DECISIONS}
            label = {"recipe": recipe.label, "temperature": f"{temperature:g}"}
            rows += [{**label, **counts, "not met": words}] if found else []
    return _table("ships", "Ship or not", rows, ["Each run decides by itself; decide on several seeds."])


def _counts(recipes: Sequence[Recipe], metrics: Mapping[str, str]) -> list[dict[str, str]]:
    """A row for each recipe and metric of 0 and 1, each metric with its heading."""
    rows = []
    for recipe in recipes:
        for metric, words in metrics.items():
            heads = _temperatures(recipes, "rate")
            found = {at: table for at, table in recipe.tables(metric).items() if table}
            cells = {
                heads[at]: f"{_counted(table)}: {in_text(interval(table))}" for at, table in found.items()
            }
            if cells:
                empty = dict.fromkeys(heads.values(), "–")
                rows.append({"recipe": recipe.label, "responses": words, **empty, **cells})
    return rows


def _counted(table: Mapping[str, tuple[str, Mapping[int, Sequence[float]]]]) -> str:
    values = [value for _, by_seed in table.values() for each in by_seed.values() for value in each]
    return f"{sum(values):.0f} of {len(values)}"


def taxonomy(recipes: Sequence[Recipe]) -> Table:
    """The taxonomy of the responses by temperature, over all seeds."""
    rows, heads = [], _temperatures(recipes, "number")
    for recipe in recipes:
        counts = {at: Counter[str]() for at in heads}
        for at, runs in recipe.runs.items():
            for prompt in (prompt for run in runs for prompt in (run.prompts or {}).values()):
                counts[at].update(prompt.taxonomy)
        for name, _ in sum(counts.values(), Counter()).most_common():
            shares = (
                f"{each[name]} ({each[name] / each.total():.0%})" if each else "–" for each in counts.values()
            )
            cells = dict(zip(heads.values(), shares, strict=True))
            rows.append({"recipe": recipe.label, "responses": heading(name), **cells})
    return _table("taxonomy", "Taxonomy of the responses", rows)


def stability(recipes: Sequence[Recipe], metric: str) -> Table:
    """The prompts whose score differs between seeds, temperatures or repeats."""
    rows, notes, heads = [], [], _temperatures(recipes, metric)
    for recipe in recipes:
        tables, before = recipe.tables(metric), len(rows)
        means = {at: prompt_means(table) for at, table in tables.items()}
        prompts = {name: row[0] for table in tables.values() for name, row in table.items()}
        for name, category in prompts.items():
            if across := _flips([table[name][1] for table in tables.values() if name in table]):
                cells = {head: _or_dash(means.get(at, {}).get(name), ".2f") for at, head in heads.items()}
                row = {"recipe": recipe.label, "prompt": name, "category": category, **cells}
                rows.append({**row, "flips across": " and ".join(across)})
        label = f"{recipe.label}: " if recipe.label else ""
        notes.append(f"{label}{len(rows) - before} of {len(prompts)} prompts flip.")
    return _table("stability", f"Prompts that flip: {metric}, the mean over seeds", rows, notes)


def gaps(runs: Sequence[RunScores]) -> Table:
    """The runs that have no score, and why."""
    rows = [
        {"run": str(run.folder), "state": run.state, "why": run.reason or "–"}
        for run in runs
        if not run.finished
    ]
    return _table("gaps", "Runs without a score", rows)


def _table(name: str, title: str, rows: Sequence[Mapping[str, str]], notes: Iterable[str] = ()) -> Table:
    """A table without the columns that are empty in every row: a single recipe has no label."""
    heads = tuple(dict.fromkeys(head for row in rows for head, text in row.items() if text))
    return Table(name, title, heads, tuple(tuple(row[head] for head in heads) for row in rows), tuple(notes))


def _flips(found: Sequence[Mapping[int, Sequence[float]]]) -> list[str]:
    """What a prompt's scores, by seed for each temperature, differ across."""
    means = [{seed: fmean(each) for seed, each in by_seed.items()} for by_seed in found]
    seeds = dict.fromkeys(seed for by_seed in means for seed in by_seed)
    differ = {
        "repeats": [each for by_seed in found for each in by_seed.values()],
        "seeds": [list(by_seed.values()) for by_seed in means],
        "temperatures": [[by_seed[seed] for by_seed in means if seed in by_seed] for seed in seeds],
    }
    return [
        name for name, groups in differ.items() if any(max(each) - min(each) > ROUNDING for each in groups)
    ]


def _range(found: Interval | None) -> str:
    return "–" if found is None else "[{:.2f}, {:.2f}]".format(*clipped(found))


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _temperatures(recipes: Sequence[Recipe], single: str) -> dict[float, str]:
    """The head of each temperature's column, sorted; a single one is headed by what it holds."""
    found = sorted({at for recipe in recipes for at in recipe.runs})
    return {at: f"temperature {axes.shown(at)}" if len(found) > 1 else single for at in found}
