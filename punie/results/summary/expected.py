"""What a sweep or a phase will be able to show, before it runs: differences detected with 80 % power."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from punie.results.config import RunConfig
from punie.results.crossed import Design, crossed
from punie.results.power import ALPHA, needed, smallest_difference
from punie.results.records import Phase
from punie.results.statistics import complete
from punie.results.summary import axes, findings
from punie.results.summary.collect import NOT_STARTED, RunScores, collect
from punie.results.summary.findings import Recipe
from punie.util.errors import DataError

MORE_PROMPTS, SEEDS = (1, 2, 10), (2, 3, 5, 10)
"""Of the table: multiples of the suite's prompts, and numbers of training seeds."""
_ONE, _RECIPES, _TEMPERATURES = "one recipe", "recipes", "temperatures"


@dataclass(frozen=True)
class Variances:
    """Variance components of a score, by what is asked: one recipe's mean, recipes, or temperatures."""

    source: str
    """Where they were measured."""
    designs: dict[str, Design]
    """Their numbers of prompts and seeds are those they were measured on."""

    def of(self, what: str, prompts: int, seeds: int) -> Design:
        """A design of other numbers. With one seed the question is about that training alone."""
        design = self.designs[what]
        by_seed = design.by_seed if seeds > 1 else 0.0
        return replace(design, prompts=prompts, seeds=seeds, by_seed=by_seed)


_MEASURED = "tiny, 100 iterations: ranks 8 and 16, five seeds, temperatures 0 and 0.7"
TINY = {
    "keyword": Variances(
        _MEASURED,
        {
            _ONE: Design(27, 5, 1, by_prompt=0.0445, by_seed=0.0010, rest=0.0563),
            _RECIPES: Design(27, 5, 2, by_prompt=0.0, by_seed=0.0010, rest=0.0563),
            _TEMPERATURES: Design(27, 5, 1, by_prompt=0.0024, by_seed=0.0013, rest=0.0642),
        },
    ),
    "strict": Variances(
        _MEASURED,
        {
            _ONE: Design(27, 5, 1, by_prompt=0.1102, by_seed=0.0, rest=0.1213),
            _RECIPES: Design(27, 5, 2, by_prompt=0.0, by_seed=0.0, rest=0.1213),
            _TEMPERATURES: Design(27, 5, 1, by_prompt=0.0055, by_seed=0.0013, rest=0.1069),
        },
    ),
}
"""By score, as :func:`measured` gives them; ``benchmarks/power.py`` has the command."""


@dataclass(frozen=True)
class Question:
    """One question, and what the runs will be able to show of it."""

    about: str
    seeds: int
    comparisons: int
    smallest: float | None
    """Smallest difference detected with 80 % power; None if not even 1.0 is."""
    published: float | None = None
    """The phase's published score, where it is nearer to the bound than that."""
    difference: float | None = None
    """Between the two."""
    prompts: int | None = None
    """The prompts that detect it with these seeds; None if no number does."""
    more_seeds: int | None = None
    """The seeds that detect it with these prompts; None if no number does."""


@dataclass(frozen=True)
class Expected:
    """What some runs will be able to show."""

    score: str
    prompts: int
    source: str
    """Of the variances."""
    questions: tuple[Question, ...]
    table: tuple[tuple[int, int, float | None], ...]
    """Prompts, seeds, and the smallest difference between two recipes; empty for one recipe."""
    notes: tuple[str, ...]


def measured(places: Sequence[Path], score: str) -> Variances:
    """The variance components in the runs of some folders; what these runs cannot tell is as on tiny.

    Raises:
        PunieError: There are no runs.
        DataError: No recipe there has two training seeds.
    """
    runs = axes.name_contents(collect(places)[0])
    recipes = findings.recipes(runs, axes.find(run.config for run in runs))
    tables = [table for recipe in recipes for table in recipe.tables(score).values()]
    one = [found.design for table in tables if (found := crossed(complete(table))) and found.design.seeds > 1]
    if not one:
        raise DataError(
            "These runs do not show how much training seeds vary.",
            where=", ".join(map(str, places)),
            expected=f"runs of one recipe with two training seeds or more, and their {score}",
        )
    designs = dict(TINY[score].designs)
    designs[_ONE] = _mean(one)
    designs[_RECIPES] = replace(designs[_RECIPES], by_seed=designs[_ONE].by_seed, rest=designs[_ONE].rest)
    by_family: dict[str, list[Design]] = {}
    for each in findings.contrasts(recipes, score):
        if each.crossed:
            family = each.family.partition(" of ")[0]
            by_family.setdefault(family, []).append(each.crossed.design)
    designs |= {family: _mean(each) for family, each in by_family.items()}
    return Variances(", ".join(map(str, places)), designs)


def expected(
    configs: Sequence[RunConfig], prompts: int, phase: Phase | None, variances: Variances, score: str
) -> Expected:
    """What runs with these configs, on so many prompts, will be able to show."""
    runs = [RunScores(Path(), NOT_STARTED, config=config) for config in configs]
    recipes = findings.recipes(runs, axes.find(configs))
    seeds = min(len(each) for recipe in recipes for each in _seeds(recipe))
    found, notes, table = [], [], []
    if phase is not None:
        found += _criteria(phase, prompts, seeds, variances)
    if (comparisons := max(len(recipe.runs) - 1 for recipe in recipes)) > 0:
        found.append(_question(_TEMPERATURES, prompts, seeds, comparisons, variances))
    pairs, _ = findings.pairs_of(len(recipes), max(len(recipe.runs) for recipe in recipes))
    if comparisons := sum(len(recipes[i].runs.keys() & recipes[j].runs.keys()) for i, j in pairs):
        if seeds > 1:
            found.append(_question(_RECIPES, prompts, seeds, comparisons, variances))
        else:
            notes.append(
                "With one training seed a difference cannot be called one of recipes: it may be the seed's."
            )
        table = [
            (more, each, smallest_difference(variances.of(_RECIPES, more, each), ALPHA / comparisons))
            for more in (prompts * times for times in MORE_PROMPTS)
            for each in sorted({*SEEDS, *([seeds] if seeds > 1 else [])})
        ]
    return Expected(score, prompts, variances.source, tuple(found), tuple(table), tuple(notes))


def in_words(found: Expected) -> str:
    """The figures for a terminal."""
    from tabulate import tabulate

    lines = [f"power: {found.score} on {found.prompts} prompts, variances of {found.source}"]
    for each in found.questions:
        of = [f"{each.seeds} training seed{'s' * (each.seeds > 1)}"]
        of += [f"{each.comparisons} comparisons"] if each.comparisons > 1 else []
        smallest = "no difference, not even 1.0" if each.smallest is None else f"{each.smallest:.2f} or more"
        lines.append(f"  {each.about} ({', '.join(of)}): detects {smallest} (80 % power)")
        if each.difference is not None:
            ways = [(each.prompts, "prompts"), (each.more_seeds, "training seeds")]
            numbers = [f"{number:,} {what}" for number, what in ways if number is not None]
            lines.append(
                f"    the published {each.published:g} is {each.difference:.3f} away, which needs "
                + (" or ".join(numbers) or "more prompts and more training seeds")
            )
    lines += [f"  {note}" for note in found.notes]
    if found.table:
        seeds = sorted({each for _, each, _ in found.table})
        cells = {(prompts, each): value for prompts, each, value in found.table}
        rows = [
            [prompts, *("–" if (v := cells[prompts, each]) is None else f"{v:.2f}" for each in seeds)]
            for prompts in sorted({prompts for prompts, *_ in found.table})
        ]
        heads = ["prompts", *(f"{each} seeds" for each in seeds)]
        lines += ["", "difference between two recipes that is detected:"]
        lines.append(tabulate(rows, heads, disable_numparse=True))
    return "\n".join(lines)


def _criteria(phase: Phase, prompts: int, seeds: int, variances: Variances) -> Iterable[Question]:
    """A question for each bound that the phase sets for the overall score; the published one is the truth."""
    rules = [(each.metric, each.value) for each in phase.criteria]
    rules += [(each.metric, each.at_least) for each in phase.outcomes if each.at_least is not None]
    published = phase.baseline.overall if phase.baseline else None
    for bound in dict.fromkeys(value for metric, value in rules if metric == "overall"):
        about = f"the mean against {bound:g}"
        yield _question(_ONE, prompts, seeds, 1, variances, about, (published, bound))


def _question(
    what: str,
    prompts: int,
    seeds: int,
    comparisons: int,
    variances: Variances,
    about: str | None = None,
    hypothesis: tuple[float | None, float] = (None, 0.0),
) -> Question:
    """A question, with the published score and the bound that it is to be told from."""
    design, alpha = variances.of(what, prompts, seeds), ALPHA / comparisons
    smallest, (published, bound) = smallest_difference(design, alpha), hypothesis
    found = Question(about or f"between {what}", seeds, comparisons, smallest)
    if published is None or published == bound or (smallest or 1.0) <= abs(published - bound):
        return found
    gap = abs(published - bound)
    return replace(
        found,
        published=published,
        difference=gap,
        prompts=needed(design, gap, "prompts", alpha),
        more_seeds=needed(variances.of(what, prompts, max(2, seeds)), gap, "seeds", alpha),
    )


def _seeds(recipe: Recipe) -> list[set[int]]:
    return [{run.config.seed for run in runs if run.config} for runs in recipe.runs.values()]


def _mean(designs: Sequence[Design]) -> Design:
    """The mean components of several designs."""
    names = ("by_prompt", "by_seed", "rest")
    return replace(designs[0], **{name: fmean(getattr(each, name) for each in designs) for name in names})
