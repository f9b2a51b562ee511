"""One table for each question: scores, categories, what became of the answers, prompts that flip, gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from punie.evals.scores import ROUNDING
from punie.results.summary import axes, cells
from punie.results.summary.axes import TEMPERATURE, Axis, Recipe
from punie.results.summary.collect import Run


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
    cells: tuple[tuple[cells.Cell, ...], ...]
    """(places, columns)."""
    pooled: tuple[str, ...]
    """Axes that are neither: a cell is the mean over their values."""


def grid(runs: Sequence[Run], found: Sequence[Axis], by: Sequence[str], metric: str) -> Grid:
    """The scores by two axes: those asked for, or every axis in the rows and the temperatures beside.

    Args:
        runs: All runs; those that have no score leave a gap that says why.
        found: The axes.
        by: One or two fields; none for the default.
        metric: Which score.
    """
    keys = [axis.key for axis in found]
    if by:
        rows, column = (by[0],), by[1] if len(by) > 1 else None
    else:
        column = TEMPERATURE if TEMPERATURE in keys and len(keys) > 1 else None
        rows = tuple(key for key in keys if key != column)
    groups: dict[tuple[tuple[Any, ...], Any], list[Run]] = {}
    for run in runs:
        if run.config:
            place = tuple(axes.value(run, key) for key in rows)
            groups.setdefault((place, axes.value(run, column) if column else None), []).append(run)
    places = sorted({place for place, _ in groups}, key=lambda place: [axes.order(each) for each in place])
    columns = axes.sort({each for _, each in groups})
    return Grid(
        rows,
        column,
        tuple(columns),
        tuple(places),
        tuple(
            tuple(cells.cell(groups.get((place, each), []), metric) for each in columns) for place in places
        ),
        tuple(axis.key for axis in found if not {axis.key, *axis.also} & {*rows, column}),
    )


def scores(found: Grid, metric: str) -> Table:
    """The grid as a table."""
    heads = _heads(found.column, found.columns, metric)
    notes = ["Mean over prompts and its 95 % interval (Wilson's, prompts for trials)."]
    if found.pooled:
        notes.append(f"Each cell is the mean over {', '.join(found.pooled)}.")
    rows = [
        (*map(axes.shown, place), *map(str, row))
        for place, row in zip(found.places, found.cells, strict=True)
    ]
    return Table("scores", f"Scores: {metric}", (*found.rows, *heads), tuple(rows), tuple(notes))


def legend(recipes: Sequence[Recipe]) -> Table:
    """What the numbers of recipes stand for; no rows if they have none."""
    numbered = [recipe for recipe in recipes if recipe.label and "=" not in recipe.label]
    heads = ("recipe", *(key for key, _ in recipes[0].place)) if numbered else ()
    rows = [(recipe.label, *(each for _, each in recipe.place)) for recipe in numbered]
    return Table("legend", "What differs between the recipes", heads, tuple(rows))


def categories(recipes: Sequence[Recipe], metric: str) -> Table:
    """Each category's score by temperature, over all seeds."""
    rows = []
    temperatures = _temperatures(recipes)
    for recipe in recipes:
        found = [cells.by_category(cells.table_of(recipe.at(each), metric)) for each in temperatures]
        for name in dict.fromkeys(name for by_name in found for name in by_name):
            prompts = max(len(by_name.get(name, ())) for by_name in found)
            means = [cells.interval(by_name.get(name, {})) for by_name in found]
            shown = ["–" if mean is None else cells.show(mean) for mean in means]
            rows.append((*_label(recipes, recipe), name, str(prompts), *shown))
    heads = (*_label_head(recipes), "category", "prompts", *_heads(TEMPERATURE, temperatures, metric))
    return Table("categories", f"Categories: {metric}", heads, tuple(rows), ("Over all seeds.",))


def taxonomy(recipes: Sequence[Recipe]) -> Table:
    """What became of the answers, by temperature, over all seeds."""
    rows = []
    temperatures = _temperatures(recipes)
    for recipe in recipes:
        counts = [
            Counter(
                name
                for run in recipe.at(each)
                if run.finished
                for answers in run.answers.values()
                for name in answers.taxonomy
            )
            for each in temperatures
        ]
        total = sum(counts, Counter())
        for name, _ in total.most_common():
            shares = [f"{c[name]} ({c[name] / c.total():.0%})" if c.total() else "–" for c in counts]
            rows.append((*_label(recipes, recipe), name, *shares))
    heads = (*_label_head(recipes), "answers that are", *_heads(TEMPERATURE, temperatures, "number"))
    return Table("taxonomy", "What became of the answers", heads, tuple(rows))


def stability(recipes: Sequence[Recipe], metric: str) -> Table:
    """The prompts whose score is not the same for all seeds, all temperatures, or all repeats."""
    rows, notes = [], []
    temperatures = _temperatures(recipes)
    for recipe in recipes:
        tables = {each: cells.table_of(recipe.at(each), metric) for each in recipe.temperatures}
        prompts = dict.fromkeys(name for table in tables.values() for name in table)
        flips = 0
        for name in prompts:
            across = _flips(name, [table for table in tables.values() if name in table])
            if across:
                flips += 1
                means = [_mean(tables.get(each, {}), name) for each in temperatures]
                category = next(table[name][0] for table in tables.values() if name in table)
                rows.append((*_label(recipes, recipe), name, category, *means, " and ".join(across)))
        label = f"{recipe.label}: " if len(recipes) > 1 else ""
        notes.append(f"{label}{flips} of {len(prompts)} prompts flip; the others never do.")
    heads = _heads(TEMPERATURE, temperatures, metric)
    title = f"Prompts that flip: {metric}, the mean over seeds"
    headers = (*_label_head(recipes), "prompt", "category", *heads, "flips across")
    return Table("stability", title, headers, tuple(rows), tuple(notes))


def gaps(runs: Sequence[Run]) -> Table:
    """The runs that have no score, and why."""
    rows = [(str(run.folder), run.state, run.reason or "–") for run in runs if not run.finished]
    return Table("gaps", "Runs without a score", ("run", "state", "why"), tuple(rows))


def _flips(name: str, tables: Sequence[cells.Table]) -> list[str]:
    """What a prompt's score changes with: repeats, seeds at one temperature, or temperatures for a seed."""
    by_seed: dict[int, list[float]] = {}
    found = []
    for table in tables:
        values = {seed: sum(each) / len(each) for seed, each in table[name][1].items()}
        for seed, each in values.items():
            by_seed.setdefault(seed, []).append(each)
        if any(map(_differ, table[name][1].values())):
            found.append("repeats")
        if _differ(list(values.values())):
            found.append("seeds")
    if any(map(_differ, by_seed.values())):
        found.append("temperatures")
    return list(dict.fromkeys(found))


def _differ(values: Sequence[float]) -> bool:
    return max(values) - min(values) > ROUNDING


def _mean(table: cells.Table, name: str) -> str:
    return f"{cells.prompt_means({name: table[name]})[name]:.2f}" if name in table else "–"


def _temperatures(recipes: Sequence[Recipe]) -> list[float]:
    return sorted({each for recipe in recipes for each in recipe.temperatures})


def _heads(column: str | None, columns: Sequence[Any], single: str) -> list[str]:
    if column is None or (len(columns) == 1 and column == TEMPERATURE):
        return [single]
    name = column.rpartition(".")[2]
    return [f"{name} {axes.shown(each)}" for each in columns]


def _label(recipes: Sequence[Recipe], recipe: Recipe) -> tuple[str, ...]:
    return (recipe.label,) if len(recipes) > 1 else ()


def _label_head(recipes: Sequence[Recipe]) -> tuple[str, ...]:
    return ("recipe",) if len(recipes) > 1 else ()
