"""What the scores of a set of runs show, in sentences, and what they cannot show.

Two questions are kept apart: does a recipe reproduce on this suite (training seeds: the prediction interval
for a new seed), and how good is it on similar prompts (the confidence interval over prompts and seeds).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from punie.evals.scores import ROUNDING
from punie.results.power import detectable_in_words, prompts_to_exclude
from punie.results.statistics import Interval
from punie.results.summary.findings import Contrast, Finding

ALPHA = 0.05
_MOST_NAMED = 4
"""Comparisons of a family that a sentence names; the table has them all."""


def sentences(
    findings: Sequence[Finding], contrasts: Sequence[Contrast], metric: str, threshold: float | None
) -> list[str]:
    """The conclusions: one for each finding, and one or two for each family of comparisons.

    ``threshold`` is the bound that a phase's criterion sets for the score; None if there is none.
    """
    if not findings:
        return ["No run here has a score."]
    found = []
    for each in findings:
        name = f"{each.recipe}, temperature" if each.recipe else "Temperature"
        seed = f", one training seed ({each.seeds[0]})" if len(each.seeds) == 1 else ""
        words = [*_seeds(each, threshold), _prompts(each, threshold), *_repeats(each)]
        found.append(f"{name} {each.temperature:g}: {metric} {each.mean:.3f}{seed}. {' '.join(words)}")
    single = sum(len(each.seeds) == 1 for each in findings)
    if single:
        which = "With one training seed" if single == len(findings) else "For recipes with one training seed"
        found.append(f"{which} there is no interval over seeds: whether the score reproduces is unknown.")
    families = itertools.groupby(contrasts, key=lambda each: each.family)
    return found + [words for family, pairs in families for words in _compared(family, list(pairs), metric)]


def clipped(found: Interval) -> tuple[float, float]:
    """An interval's ends, within 0 to 1."""
    return max(0.0, found.low), min(1.0, found.high)


def p_in_words(value: float) -> str:
    """A p-value."""
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _seeds(each: Finding, threshold: float | None) -> Iterator[str]:
    low, high, seeds = min(each.by_seed), max(each.by_seed), len(each.seeds)
    if seeds > 1 and high - low < ROUNDING:
        yield f"All {seeds} seeds score {low:.3f}: no prediction interval for a new seed."
    elif seeds > 1 and each.spread is None:
        yield f"{seeds} seeds score {low:.3f} to {high:.3f}: too few prompts to predict a new one."
    elif each.spread:
        yield f"{each.spread.seeds} seeds score {low:.3f} to {high:.3f}."
        yield f"95 % prediction interval for a new seed: {_range(each.spread.prediction, threshold)}."


def _prompts(each: Finding, threshold: float | None) -> str:
    if each.interval is None:
        return f"No confidence interval: {each.prompts} prompt{'s' * (each.prompts != 1)}."
    over = "prompts and seeds" if len(each.seeds) > 1 else "prompts"
    words = f"95 % confidence interval over {over}: {_range(each.interval, threshold)}"
    if threshold is None or not each.interval.low + ROUNDING < threshold <= each.interval.high:
        return f"{words}."
    if abs(each.mean - threshold) < ROUNDING:
        return f"{words}; the mean is {threshold:g}, so no number of prompts would exclude it."
    needed = prompts_to_exclude(each.mean, threshold)
    more = f"about {needed:,} prompts" if needed > each.prompts else "more seeds"
    return f"{words}; excluding it needs {more}."


def _repeats(each: Finding) -> Iterator[str]:
    if each.repeated_at_zero is not None:
        same = "the same scores" if each.repeated_at_zero else "different scores"
        yield f"Repeats at temperature 0 gave {same}; they are not counted as samples."
    if each.pass_hat:
        most = max(each.pass_hat)
        yield f"pass^{most} (all {most} attempts at a prompt succeed): {each.pass_hat[most]:.2f}."


def _compared(family: str, pairs: Sequence[Contrast], metric: str) -> Iterator[str]:
    """A sentence for the significant differences of a family, and one for the others."""
    lead = f"{family.partition(' of ')[2]}: {metric}" if " of " in family else metric.capitalize()
    adjusted = f", each p adjusted for {len(pairs)} comparisons" if len(pairs) > 1 else ""
    if significant := [each for each in pairs if each.adjusted <= ALPHA]:
        yield f"{lead} differs significantly on these prompts: {_listed(significant)}{adjusted}."
    if others := [each for each in pairs if each.adjusted > ALPHA]:
        nearest = min(others, key=lambda each: (each.needed or math.inf, each.detectable is None))
        test = nearest.test
        words = detectable_in_words(len(test.differences), test.difference.estimate, nearest.detectable)
        of = f"{_named(nearest)}: " if others[1:] and nearest.detectable is not None else ""
        yield f"{lead} does not differ significantly: {_listed(others)}{adjusted}. {of}{words}."
    if family == "recipes" and any(each.seeds == 1 for each in pairs):
        yield "With one training seed, a difference may come from the seed and not from the recipe."


def _listed(pairs: Sequence[Contrast]) -> str:
    named = [
        f"{_named(each)} by {each.test.difference.estimate:+.3f} (p {p_in_words(each.adjusted)})"
        for each in sorted(pairs, key=lambda each: each.adjusted)[:_MOST_NAMED]
    ]
    return ", ".join(named) + (f" and {len(pairs) - len(named)} more" if len(pairs) > len(named) else "")


def _named(each: Contrast) -> str:
    word = "temperature "
    return f"{each.a} → {each.b.removeprefix(word if each.a.startswith(word) else '')}"


def _range(found: Interval, threshold: float | None) -> str:
    """An interval, and where a threshold lies."""
    words = "{:.2f} to {:.2f}".format(*clipped(found))
    if threshold is None:
        return words
    if found.low + ROUNDING >= threshold:
        return f"{words}, at least {threshold:g}"
    return f"{words}, {'below' if found.high < threshold else 'which includes'} {threshold:g}"
