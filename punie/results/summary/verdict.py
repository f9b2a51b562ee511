"""What the scores of a set of runs decide, in plain language, and what they cannot.

Two questions are kept apart: does the recipe reproduce on this suite (seeds, and the range of one more),
and is it good on prompts like these (an interval over prompts and seeds).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from punie.evals.scores import ROUNDING, SCORERS
from punie.results.power import prompts_to_exclude, reach, reach_in_words
from punie.results.statistics import (
    RESAMPLES,
    Interval,
    Paired,
    SeedSpread,
    Table,
    bootstrap,
    holm,
    paired,
    pass_hat,
    seed_spread,
)
from punie.results.summary import tables
from punie.results.summary.axes import Recipe, shown, training_seed
from punie.results.summary.cells import prompt_means, table_of

ALPHA = 0.05
MOST_COMPARISONS = 100
"""Recipes compared with the first one; beyond it nobody reads them, and Holm leaves nothing."""
_BINARY = (*(name for name, scorer in SCORERS.items() if scorer.binary), "wrapper")
_DRAWS = 20_000_000
"""Scores drawn by all intervals together, so that ten thousand runs take seconds."""
_FEWEST = 1_000
_MOST_TOLD = 4
"""Comparisons of a family that the verdict tells one by one; the table has them all."""


@dataclass(frozen=True)
class Finding:
    """A recipe at a temperature."""

    recipe: str
    temperature: float
    seeds: tuple[int, ...]
    """Training seeds."""
    prompts: int
    mean: float
    interval: Interval | None
    """For prompts like these; with several seeds, for seeds like these as well."""
    spread: SeedSpread | None
    """None for one seed, and for seeds that all score the same."""
    by_seed: tuple[float, ...]
    """Each seed's score, in the order of the seeds."""
    pass_hat: Mapping[int, float]
    """By k; empty without repeats that are samples."""
    repeated_at_zero: bool | None
    """Whether repeats at temperature 0 gave the same scores; None if there are none."""


@dataclass(frozen=True)
class Comparison:
    """Two conditions on the same prompts."""

    family: str
    """Which others its p-value is adjusted for."""
    a: str
    b: str
    means: tuple[float, float]
    test: Paired
    adjusted: float
    """Holm's p-value within its family."""
    detectable: float | None
    """Smallest true difference these prompts show at 80 % power; None if no prompt changed."""
    needed: int | None
    """Prompts that a difference of this size takes; None for no difference."""
    seeds: int
    """Training seeds in both; the fewer, if they have none in common and each is taken with its own."""


def find(recipes: Sequence[Recipe], metric: str) -> list[Finding]:
    """What is known of every recipe at every temperature."""
    groups = [
        (recipe, each, table_of(recipe.at(each), metric))
        for recipe in recipes
        for each in recipe.temperatures
    ]
    size = sum(len(by_seed) for *_, table in groups for _, by_seed in table.values())
    resamples = max(_FEWEST, min(RESAMPLES, _DRAWS // max(size, 1)))
    return [_finding(recipe, each, table, metric, resamples) for recipe, each, table in groups if table]


def compare(recipes: Sequence[Recipe], metric: str) -> list[Comparison]:
    """Each recipe's temperatures with its lowest, and each recipe with the first, at equal temperatures."""
    found: list[Comparison] = []
    for recipe in recipes:
        scores = {each: table_of(recipe.at(each), metric) for each in recipe.temperatures}
        family = f"temperatures{' of ' if recipe.label else ''}{recipe.label}"
        pairs = [
            _compare(
                family, f"temperature {shown(low)}", f"temperature {shown(each)}", scores[low], scores[each]
            )
            for low, each in ((recipe.temperatures[0], each) for each in recipe.temperatures[1:])
        ]
        found += _adjusted(pairs)
    pairs = []
    for other in recipes[1 : MOST_COMPARISONS + 1]:
        for each in sorted({*recipes[0].temperatures} & {*other.temperatures}):
            a, b = (table_of(recipe.at(each), metric) for recipe in (recipes[0], other))
            at = f" at {shown(each)}" if len(other.temperatures) > 1 else ""
            pairs.append(_compare("recipes", f"{recipes[0].label}{at}", f"{other.label}{at}", a, b))
    return found + _adjusted(pairs)


def sentences(
    findings: Sequence[Finding], comparisons: Sequence[Comparison], metric: str, threshold: float | None
) -> list[str]:
    """The verdict, a sentence or two for each finding and family of comparisons.

    Args:
        findings: As :func:`find` gives them.
        comparisons: As :func:`compare` gives them.
        metric: Which score.
        threshold: What a phase's criterion asks of it; None if there is none.
    """
    if not findings:
        return ["No run here has a score: there is nothing to decide."]
    several = len({finding.recipe for finding in findings}) > 1
    found = []
    for each in findings:
        name = (
            f"{each.recipe}, temperature {each.temperature:g}"
            if several
            else f"Temperature {each.temperature:g}"
        )
        seed = f", one training seed ({each.seeds[0]})" if len(each.seeds) == 1 else ""
        words = [*_reproduces(each, threshold), _good(each, threshold), *_repeats(each)]
        found.append(f"{name}: {metric} {each.mean:.3f}{seed}. {' '.join(words)}")
    families: dict[str, list[Comparison]] = {}
    for pair in comparisons:
        families.setdefault(pair.family, []).append(pair)
    single = sum(len(each.seeds) == 1 for each in findings)
    if single:
        where = "With" if single == len(findings) else "Where there is"
        found.append(
            f"{where} one training seed there is no interval over seeds, and nothing says whether a recipe "
            "reproduces."
        )
    return found + [words for pairs in families.values() for words in _compared(pairs, metric)]


def findings_table(findings: Sequence[Finding], metric: str) -> tables.Table:
    """A row for each recipe and temperature."""
    several = len({finding.recipe for finding in findings}) > 1
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
        for each in findings
    ]
    heads = (
        "temperature",
        "seeds",
        "mean",
        "prompts like these",
        "sd of seeds",
        "one more seed",
        "pass^1, 2, ...",
    )
    note = "Both ranges are 95 % intervals: bootstrap over prompts and seeds; mean ± t·s·√(1 + 1/S)."
    title = f"Recipes: {metric}"
    return tables.Table("recipes", title, (*(("recipe",) if several else ()), *heads), tuple(rows), (note,))


def comparisons_table(comparisons: Sequence[Comparison]) -> tables.Table:
    """A row for each comparison, with what its prompts could have shown."""
    rows = [
        (
            each.family,
            f"{each.a} → {each.b}",
            f"{each.test.difference.estimate:+.3f}",
            f"[{each.test.difference.low:+.2f}, {each.test.difference.high:+.2f}]",
            _p(each.test.p_value),
            _p(each.adjusted),
            str(len(each.test.differences)),
            "–" if each.detectable is None else f"{each.detectable:.2f}",
            "–" if each.needed is None else f"{each.needed:,}",
        )
        for each in comparisons
    ]
    heads = (
        "among", "from → to", "difference", "95 % interval", "p", "p, Holm", "prompts", "shows from", "needs",
    )  # fmt: skip
    notes = (
        "Prompt by prompt, with these seeds: p of the sign-flip test, and adjusted by Holm for its number.",
        "Shows from: the smallest difference that as many prompts find, with 80 % power. Needs: the prompts "
        "that the difference seen would take.",
        "The interval allows for prompts unlike these: where it and p disagree on 0, p decides.",
    )
    return tables.Table("comparisons", "Comparisons", heads, tuple(rows), notes if rows else ())


def _finding(recipe: Recipe, temperature: float, table: Table, metric: str, resamples: int) -> Finding:
    seeds = sorted({training_seed(run) for run in recipe.at(temperature) if run.finished})
    means = prompt_means(table)
    by_seed = [[sum(v[s]) / len(v[s]) for _, v in table.values() if s in v] for s in seeds]
    lists = [values for _, by_seed in table.values() for values in by_seed.values()]
    repeated = any(len(values) > 1 for values in lists)
    at_zero = temperature == 0 and repeated
    return Finding(
        recipe=recipe.label,
        temperature=temperature,
        seeds=tuple(seeds),
        prompts=len(means),
        mean=math.fsum(means.values()) / len(means),
        interval=bootstrap(table, shared_seeds=len(seeds) > 1, resamples=resamples),
        spread=seed_spread(table),
        by_seed=tuple(sum(values) / len(values) for values in by_seed if values),
        pass_hat={} if at_zero or not repeated or metric not in _BINARY else _pass_hat(table, seeds),
        repeated_at_zero=all(len(set(values)) == 1 for values in lists) if at_zero else None,
    )


def _pass_hat(table: Table, seeds: Sequence[int]) -> dict[int, float]:
    """Mean over training seeds; empty where prompts have different numbers of attempts."""
    by_seed = [{name: v[s] for name, (_, v) in table.items() if s in v} for s in seeds]
    if len({len(values) for attempts in by_seed for values in attempts.values()}) != 1:
        return {}
    found = [pass_hat(attempts) for attempts in by_seed]
    return {k: sum(each[k] for each in found) / len(found) for k in found[0]}


def _compare(family: str, a: str, b: str, before: Table, after: Table) -> Comparison | None:
    """None if they have no prompt in common."""
    own = [{s for _, v in table.values() for s in v} for table in (before, after)]
    common = own[0] & own[1]
    one, two = (
        {
            name: [sum(v[s]) / len(v[s]) for s in v if not common or s in common]
            for name, (_, v) in table.items()
            if not common or common & v.keys()
        }
        for table in (before, after)
    )
    names = one.keys() & two.keys()
    if not names:
        return None
    one, two = ({name: run[name] for name in names} for run in (one, two))
    test = paired(one, two)
    detectable, needed = reach(test)
    return Comparison(
        family=family,
        a=a,
        b=b,
        means=(_mean(one), _mean(two)),
        test=test,
        adjusted=test.p_value,
        detectable=detectable,
        needed=needed,
        seeds=len(common) or min(map(len, own)),
    )


def _adjusted(pairs: Sequence[Comparison | None]) -> list[Comparison]:
    found = [each for each in pairs if each is not None]
    adjusted = holm([each.test.p_value for each in found])
    return [replace(each, adjusted=p) for each, p in zip(found, adjusted, strict=True)]


def _mean(scores: Mapping[str, Sequence[float]]) -> float:
    return math.fsum(sum(v) / len(v) for v in scores.values()) / len(scores)


def _reproduces(each: Finding, threshold: float | None) -> Iterator[str]:
    """Nothing for one seed."""
    if len(each.seeds) == 1:
        return
    low, high = min(each.by_seed), max(each.by_seed)
    if high - low < ROUNDING:
        yield f"All {len(each.seeds)} seeds score {low:.3f}: how far one more may be from it is not known."
    elif each.spread is None:
        yield f"{len(each.seeds)} seeds score {low:.3f} to {high:.3f}: too few prompts for a range."
    else:
        expected = each.spread.prediction
        words = (
            f"On this suite {each.spread.seeds} seeds score {low:.3f} to {high:.3f}; one more is expected "
            f"{_between(expected)}"
        )
        if threshold is None:
            yield f"{words}."
        elif expected.low + ROUNDING >= threshold:
            yield f"{words}: reaching {threshold:g} reproduces."
        elif expected.high < threshold:
            yield f"{words}: it does not reach {threshold:g}."
        else:
            yield f"{words}: whether it reaches {threshold:g} is left to the seed."


def _good(each: Finding, threshold: float | None) -> str:
    if each.interval is None:
        return f"Of prompts like these {each.prompts} tell nothing."
    words = f"On other prompts like these {each.prompts} the mean is {_between(each.interval)}"
    if threshold is None:
        return f"{words}."
    if each.interval.low + ROUNDING >= threshold:
        return f"{words}: at least {threshold:g}."
    if each.interval.high < threshold:
        return f"{words}: below {threshold:g}."
    if abs(each.mean - threshold) < ROUNDING:
        return f"{words}: no number of prompts tells it from {threshold:g}."
    needed = prompts_to_exclude(each.mean, threshold)
    more = f"about {needed:,} prompts would" if needed > each.prompts else "more seeds would"
    return f"{words}: that cannot be told from {threshold:g}; {more}."


def _repeats(each: Finding) -> Iterator[str]:
    if each.repeated_at_zero is not None:
        same = "gave the same scores" if each.repeated_at_zero else "did not even give the same scores"
        yield f"Repeats at temperature 0 are no samples; they {same}."
    if each.pass_hat:
        most = max(each.pass_hat)
        yield f"All {most} attempts at a prompt succeed at a rate of {each.pass_hat[most]:.2f} (pass^{most})."


def _compared(pairs: Sequence[Comparison], metric: str) -> Iterator[str]:
    """A sentence for the comparisons of a family that are decided, and one for those that are not."""
    family = pairs[0].family
    lead = f"{family.partition(' of ')[2]}: {metric}" if " of " in family else metric.capitalize()
    adjusted = f", each p adjusted for {len(pairs)} comparisons" if len(pairs) > 1 else ""
    decided = [each for each in pairs if each.adjusted <= ALPHA]
    if decided:
        yield f"{lead} differs, by more than chance explains on these prompts: {_listed(decided)}{adjusted}."
    if open_still := [each for each in pairs if each.adjusted > ALPHA]:
        nearest = min(open_still, key=lambda each: (each.needed or math.inf, each.detectable is None))
        gap, count = nearest.test.difference.estimate, len(nearest.test.differences)
        words = reach_in_words(count, gap, nearest.detectable)
        if nearest.detectable is None:
            yield f"{lead} does not differ in {_listed(open_still)}: {words}."
        else:
            words = f"The nearest to be shown is {_named(nearest)}: {words}" if open_still[1:] else words
            yield f"{lead} differs, and chance may explain it: {_listed(open_still)}{adjusted}. {words}."
    if family == "recipes" and any(each.seeds == 1 for each in pairs):
        yield "With one seed a difference is one of two trainings, not of the recipes."


def _listed(pairs: Sequence[Comparison]) -> str:
    told = [
        f"{_named(each)} by {each.test.difference.estimate:+.3f} (p {_p(each.adjusted)})"
        for each in sorted(pairs, key=lambda each: each.adjusted)[:_MOST_TOLD]
    ]
    return ", ".join(told) + (f" and {len(pairs) - len(told)} more" if len(pairs) > len(told) else "")


def _named(each: Comparison) -> str:
    word = "temperature "
    return f"{each.a} → {each.b.removeprefix(word if each.a.startswith(word) else '')}"


def _between(found: Interval) -> str:
    return f"between {max(0.0, found.low):.2f} and {min(1.0, found.high):.2f}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _range(found: Interval | None) -> str:
    return "–" if found is None else f"[{max(0.0, found.low):.2f}, {min(1.0, found.high):.2f}]"
