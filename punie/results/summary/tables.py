"""The tables of a summary: scores, recipes, comparisons, categories, taxonomy, prompts that flip, gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from punie.evals.scores import ROUNDING
from punie.results.config import TEMPERATURE
from punie.results.statistics import Interval
from punie.results.summary import axes, cells
from punie.results.summary.axes import Axis, Recipe
from punie.results.summary.collect import RunScores
from punie.results.summary.conclusions import clipped, p_in_words
from punie.results.summary.findings import Contrast, Finding


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


def grid(runs: Sequence[RunScores], found: Sequence[Axis], by: Sequence[str], metric: str) -> Grid:
    """The scores by two axes: those asked for, or the temperatures as columns and every other axis as rows.

    Args:
        runs: All runs; one without a score leaves a gap that says why.
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
    groups: dict[tuple[tuple[Any, ...], Any], list[RunScores]] = {}
    for run in runs:
        if run.config:
            place = axes.values(run.config, rows)
            groups.setdefault((place, run.config.comparable(column) if column else None), []).append(run)
    places = sorted({place for place, _ in groups}, key=axes.rank)
    columns = axes.ordered({each for _, each in groups})
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
    notes = ["Mean over prompts with Wilson's 95 % interval (a prompt is a trial)."]
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
    heads = ("recipe", *(key for key, _ in recipes[0].values)) if numbered else ()
    rows = [(recipe.label, *(each for _, each in recipe.values)) for recipe in numbered]
    return Table("legend", "What differs between the recipes", heads, tuple(rows))


def findings(found: Sequence[Finding], metric: str) -> Table:
    """A row for each recipe and temperature."""
    several = len({finding.recipe for finding in found}) > 1
    rows = [
        (
            *((each.recipe,) if several else ()),
            f"{each.temperature:g}",
            str(len(each.seeds)),
            f"{each.mean:.3f}",
            _range(each.interval),
            "–" if each.spread is None else f"{each.spread.stdev:.3f}",
            _range(each.spread.prediction if each.spread else None),
            ", ".join(f"{value:.2f}" for value in each.pass_hat.values()) or "–",
        )
        for each in found
    ]
    heads = (
        "temperature", "seeds", "mean", "confidence interval", "sd of seeds", "prediction interval",
        "pass^1, 2, ...",
    )  # fmt: skip
    notes = (
        "Both are 95 % intervals: bootstrap over prompts and seeds; for a new seed mean ± t·s·√(1 + 1/S).",
    )
    return Table(
        "recipes", f"Recipes: {metric}", (*(("recipe",) if several else ()), *heads), tuple(rows), notes
    )


def contrasts(found: Sequence[Contrast]) -> Table:
    """A row for each comparison, with its minimum detectable difference."""
    rows = [
        (
            each.family,
            f"{each.a} → {each.b}",
            f"{each.test.difference.estimate:+.3f}",
            f"[{each.test.difference.low:+.2f}, {each.test.difference.high:+.2f}]",
            p_in_words(each.test.p_value),
            p_in_words(each.adjusted),
            str(len(each.test.differences)),
            "–" if each.detectable is None else f"{each.detectable:.2f}",
            "–" if each.needed is None else f"{each.needed:,}",
        )
        for each in found
    ]
    heads = (
        "among", "from → to", "difference", "95 % interval", "p", "p, Holm", "prompts", "detectable",
        "needed",
    )  # fmt: skip
    notes = (
        "Paired by prompt, with these seeds: p of the sign-flip test, and Holm's adjustment in its family.",
        "Detectable: the minimum detectable difference at 80 % power. Needed: the prompts that detect the "
        "difference found.",
        "The interval is for similar prompts: where it and p disagree about 0, p counts.",
    )
    return Table("comparisons", "Comparisons", heads, tuple(rows), notes if rows else ())


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
            rows.append((*_label(recipes, recipe.label), name, str(prompts), *shown))
    heads = (*_label(recipes, "recipe"), "category", "prompts", *_heads(TEMPERATURE, temperatures, metric))
    return Table("categories", f"Categories: {metric}", heads, tuple(rows), ("Over all seeds.",))


def taxonomy(recipes: Sequence[Recipe]) -> Table:
    """The taxonomy of the responses by temperature, over all seeds."""
    rows = []
    temperatures = _temperatures(recipes)
    for recipe in recipes:
        counts = [
            Counter(
                name
                for run in recipe.at(each)
                for prompt in (run.prompts or {}).values()
                for name in prompt.taxonomy
            )
            for each in temperatures
        ]
        total = sum(counts, Counter())
        for name, _ in total.most_common():
            shares = [f"{c[name]} ({c[name] / c.total():.0%})" if c.total() else "–" for c in counts]
            rows.append((*_label(recipes, recipe.label), name, *shares))
    heads = (*_label(recipes, "recipe"), "responses", *_heads(TEMPERATURE, temperatures, "number"))
    return Table("taxonomy", "Taxonomy of the responses", heads, tuple(rows))


def stability(recipes: Sequence[Recipe], metric: str) -> Table:
    """The prompts whose score differs between seeds, temperatures or repeats."""
    rows, notes = [], []
    temperatures = _temperatures(recipes)
    for recipe in recipes:
        tables = {each: cells.table_of(recipe.at(each), metric) for each in recipe.temperatures}
        prompts = dict.fromkeys(name for table in tables.values() for name in table)
        flips = 0
        for name in prompts:
            found = [table[name] for table in tables.values() if name in table]
            if across := _flips([by_seed for _, by_seed in found]):
                flips += 1
                means = [_mean(tables.get(each, {}), name) for each in temperatures]
                rows.append((*_label(recipes, recipe.label), name, found[0][0], *means, " and ".join(across)))
        label = f"{recipe.label}: " if len(recipes) > 1 else ""
        notes.append(f"{label}{flips} of {len(prompts)} prompts flip.")
    heads = _heads(TEMPERATURE, temperatures, metric)
    title = f"Prompts that flip: {metric}, the mean over seeds"
    headers = (*_label(recipes, "recipe"), "prompt", "category", *heads, "flips across")
    return Table("stability", title, headers, tuple(rows), tuple(notes))


def gaps(runs: Sequence[RunScores]) -> Table:
    """The runs that have no score, and why."""
    rows = [(str(run.folder), run.state, run.reason or "–") for run in runs if not run.finished]
    return Table("gaps", "Runs without a score", ("run", "state", "why"), tuple(rows))


def _flips(found: Sequence[Mapping[int, Sequence[float]]]) -> list[str]:
    """What a prompt's scores, by seed for each temperature, differ across."""
    means = [{seed: sum(each) / len(each) for seed, each in by_seed.items()} for by_seed in found]
    seeds = dict.fromkeys(seed for by_seed in means for seed in by_seed)
    differ = {
        "repeats": [each for by_seed in found for each in by_seed.values()],
        "seeds": [list(by_seed.values()) for by_seed in means],
        "temperatures": [[by_seed[seed] for by_seed in means if seed in by_seed] for seed in seeds],
    }
    return [
        name for name, groups in differ.items() if any(max(each) - min(each) > ROUNDING for each in groups)
    ]


def _mean(table: cells.Table, name: str) -> str:
    return f"{cells.prompt_means({name: table[name]})[name]:.2f}" if name in table else "–"


def _range(found: Interval | None) -> str:
    return "–" if found is None else "[{:.2f}, {:.2f}]".format(*clipped(found))


def _temperatures(recipes: Sequence[Recipe]) -> list[float]:
    return sorted({each for recipe in recipes for each in recipe.temperatures})


def _heads(column: str | None, columns: Sequence[Any], single: str) -> list[str]:
    if column is None or (len(columns) == 1 and column == TEMPERATURE):
        return [single]
    name = column.rpartition(".")[2]
    return [f"{name} {axes.shown(each)}" for each in columns]


def _label(recipes: Sequence[Recipe], text: str) -> tuple[str, ...]:
    """The cell that tells recipes apart; none if there is one recipe."""
    return (text,) if len(recipes) > 1 else ()
