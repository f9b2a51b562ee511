"""What the scores of a set of runs show, in sentences, and what they cannot show.

Two questions are kept apart: does a recipe reproduce on this suite (training seeds: the prediction interval
for a new seed), and how good is it on similar prompts (the confidence interval over prompts and seeds). So it
is for a difference: is it one between these trained models, or between their recipes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from punie.evals.scores import ROUNDING
from punie.results.config import SAMPLING_SEED, SEED, RunConfig
from punie.results.power import (
    ALPHA,
    detectable_in_words,
    needed,
    prompts_to_exclude,
    smallest_in_words,
)
from punie.results.statistics import Interval
from punie.results.summary.axes import LAST, Axis, shown
from punie.results.summary.findings import Contrast, Finding

FEW_SEEDS = 5
"""With fewer, a sentence says what they allow."""
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


def clipped(found: Interval, least: float = 0.0) -> tuple[float, float]:
    """An interval's ends, within the scale: from 0 to 1, for a difference from -1."""
    return max(least, found.low), min(1.0, found.high)


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


def confounded(found: Sequence[Axis], configs: Iterable[RunConfig | None]) -> Iterator[str]:
    """A sentence for each axis whose effect these runs cannot tell from that of another field."""
    known = [config for config in configs if config]
    for axis in found:
        if axis.key == SEED and SAMPLING_SEED in axis.also and any(config.temperature for config in known):
            yield (
                "lora.seed and eval.seed change together: the spread over seeds is that of training and "
                "sampling. A fixed eval.seed separates them."
            )
        elif axis.also and axis.key not in LAST:
            fields = ", ".join((axis.key, *axis.also[:-1]))
            yield f"{fields} and {axis.also[-1]} change together: a difference may come from any of them."
    if any("lora.rank" in (axis.key, *axis.also) for axis in found):
        scales = {rank: set[float]() for rank in {config.value("lora.rank") for config in known}}
        for config in known:
            scales[config.value("lora.rank")].add(config.value("lora.scale"))
        fixed = set.intersection(*scales.values()) if len(scales) > 1 else set()
        if fixed:
            (scale, *_) = fixed
            yield (
                f"The ranks share lora.scale={shown(scale)}: the update grows with rank × scale, so a "
                "difference may come from its size. To compare ranks, change lora.scale with 1/rank."
            )


def _compared(family: str, pairs: Sequence[Contrast], metric: str) -> Iterator[str]:
    """Sentences for the significant differences of a family, for the others, and on what seeds allow."""
    of_recipe = family.partition(" of ")[2]
    place = f"{of_recipe}: " if of_recipe else ""
    lead = f"{place}{metric}" if of_recipe else metric.capitalize()
    adjusted = f", each p adjusted for {len(pairs)} comparisons" if len(pairs) > 1 else ""
    recipes = family == "recipes"
    for single, over in (
        (False, "over prompts and training seeds"),
        (True, f"over prompts, {'between these trainings' if recipes else 'for this training'}"),
    ):
        own = [each for each in pairs if (each.crossed is None) == single]
        if significant := [each for each in own if each.adjusted <= ALPHA]:
            yield f"{lead} differs significantly {over}: {_listed(significant)}{adjusted}."
        if others := [each for each in own if each.adjusted > ALPHA]:
            of, words = _power(others)
            yield f"{lead} does not differ significantly {over}: {_listed(others)}{adjusted}. {of}{words}."
    for each in pairs:
        if each.crossed and each.adjusted_fixed <= ALPHA < each.adjusted:
            yield (
                f"{place}{_named(each)}: these {each.seeds} seeds' models differ on prompts like these "
                f"(p {p_in_words(each.adjusted_fixed)}); that models of other seeds would is not shown "
                f"(p {p_in_words(each.adjusted)})."
            )
    if recipes and any(each.seeds == 1 for each in pairs):
        yield "With one training seed, a difference may come from the seed and not from the recipe."
    few = min((each.seeds for each in pairs if each.crossed), default=FEW_SEEDS)
    if recipes and few < FEW_SEEDS:
        yield (
            f"With {few} training seeds a difference between recipes needs at least {_deviations(few):.1f} "
            f"standard deviations of a seed's score, whatever the prompts; with {FEW_SEEDS}, "
            f"{_deviations(FEW_SEEDS):.1f}."
        )


def _power(pairs: Sequence[Contrast]) -> tuple[str, str]:
    """The pair that is nearest to being significant, by name if there are others, and its power."""
    nearest = min(pairs, key=lambda each: (each.adjusted, not each.test.discordance))
    test, both = nearest.test, nearest.crossed
    prompts, difference = len(test.differences), test.difference.estimate
    of = f"{_named(nearest)}: " if pairs[1:] and test.discordance else ""
    if both is None or not test.discordance:
        return of, detectable_in_words(prompts, test.up + test.down, difference, nearest.detectable)
    words = smallest_in_words(nearest.detectable, f"{both.design.prompts} prompts, {both.design.seeds} seeds")
    if abs(difference) < ROUNDING or (nearest.detectable or 1) <= abs(difference):
        return of, words
    numbers = [
        f"{number:,} {what}"
        for what in ("prompts", "seeds")
        if (number := needed(both.design, difference, what))
    ]
    return of, f"{words}. Detecting {abs(difference):.3f} needs {' or '.join(numbers) or 'more of both'}"


def _deviations(seeds: int) -> float:
    """Student's t for the difference of two means of so many seeds, in their standard deviations."""
    from scipy.special import stdtrit

    return float(stdtrit(2 * (seeds - 1), 1 - ALPHA / 2)) * math.sqrt(2 / seeds)


def _listed(pairs: Sequence[Contrast]) -> str:
    named = [
        f"{_named(each)} by {each.test.difference.estimate:+.3f} "
        f"(p {p_in_words(each.adjusted)}{_beside(each)})"
        for each in sorted(pairs, key=lambda each: each.adjusted)[:_MOST_NAMED]
    ]
    return ", ".join(named) + (f" and {len(pairs) - len(named)} more" if len(pairs) > len(named) else "")


def _beside(each: Contrast) -> str:
    """The other score's difference."""
    if each.beside is None:
        return ""
    name, difference, p_value = each.beside
    return f"; {name} {difference:+.3f}, p {p_in_words(p_value)}"


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
