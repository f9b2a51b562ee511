"""Compares the responses of two runs prompt by prompt: a test for each score, the prompts that changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from punie.evals.scores import RATES, SCORERS, heading
from punie.results.power import detectable
from punie.results.records import Estimate, Pair, Sample
from punie.results.scoring import rates
from punie.results.statistics import Paired, paired


class NothingToCompareError(ValueError):
    """No prompt has a response in both runs."""


@dataclass(frozen=True)
class ChangedPrompt:
    """A prompt that scores differently; each pair is of run a and run b."""

    id: str
    category: str
    prompt: str
    scores: Mapping[str, tuple[float, float]]
    """By score, the mean over repeats."""
    taxonomy: tuple[str, str]
    """The taxonomy of the responses."""
    outputs: tuple[tuple[str, ...], tuple[str, ...]]
    """The responses, one for each repeat."""


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same prompts."""

    means: Mapping[str, tuple[float, float]]
    """By score or rate, the mean over prompts of run a and run b."""
    paired: Mapping[str, Paired]
    """By score, the test; then by rate of wrong decisions to call, over the prompts that it is about."""
    rates: Mapping[str, tuple[Estimate, Estimate]]
    """The rates of run a and run b with their own intervals."""
    changed: tuple[ChangedPrompt, ...]
    """In the suite's order."""
    left_out: tuple[str, ...]
    """Prompts without a response in either run; they are not compared."""


def compare(a: Sequence[Sample], b: Sequence[Sample]) -> Comparison:
    """Compare the samples of two evaluations.

    Raises:
        NothingToCompareError: No prompt has a response in both.
        ValueError: They are not of the same prompts.
    """
    missing = {sample.id for sample in (*a, *b) if not sample.answered}
    before, after = _by_prompt(a, missing), _by_prompt(b, missing)
    if missing and not before.keys() & after.keys():
        raise NothingToCompareError("no prompt has a response in both")
    other = [
        key
        for key in before
        if key in after
        and any(
            x.prompt != y.prompt for x, y in zip(before[key][0].reached, after[key][0].reached, strict=False)
        )
    ]
    if other:
        raise ValueError(f"{len(other)} prompts have another text: {', '.join(other[:5])}")
    names = [name for name in SCORERS if all(name in s.scores for s in (*a, *b) if s.id not in missing)]
    values = {name: (_values(before, name), _values(after, name)) for name in names}
    wrong = {rate: _wrong(before, after, rate) for rate in RATES}
    found = {**values, **{rate: both for rate, both in wrong.items() if all(both)}}
    tests = {name: paired(*both) for name, both in found.items()}
    own = [rates((s for rows in side.values() for s in rows), complete=True) for side in (before, after)]

    def changed(key: str) -> ChangedPrompt:
        sides, first = (before[key], after[key]), before[key][0]
        words = [", ".join(dict.fromkeys(heading(sample.taxonomy) for sample in side)) for side in sides]
        outputs = [tuple(sample.transcript for sample in side) for side in sides]
        means = {name: (fmean(x[key]), fmean(y[key])) for name, (x, y) in values.items()}
        return ChangedPrompt(
            key,
            first.category,
            first.reached[0].prompt,
            means,
            (words[0], words[1]),
            (outputs[0], outputs[1]),
        )

    return Comparison(
        means={name: (_mean(x), _mean(y)) for name, (x, y) in found.items()},
        paired=tests,
        rates={rate: (own[0][rate], own[1][rate]) for rate in tests if rate in RATES},
        changed=tuple(changed(key) for key in before if any(tests[name].differences[key] for name in names)),
        left_out=tuple(sorted(missing)),
    )


def pairs(before: str, after: str, a: Sequence[Sample], b: Sequence[Sample]) -> list[Pair]:
    """Two targets of one run, by name and samples, compared as results.json holds it.

    Returns:
        An entry for each score and each rate of wrong decisions to call; none where no prompt has a
        response in both.
    """
    try:
        found = compare(a, b)
    except NothingToCompareError:
        return []
    return [
        Pair(
            before=before,
            after=after,
            score=score,
            prompts=len(test.differences),
            left_out=len(found.left_out),
            difference=test.difference.estimate,
            interval=(test.difference.low, test.difference.high),
            p_value=test.p_value,
            exact=test.exact,
            mcnemar=test.mcnemar,
            up=[key for key, change in test.differences.items() if change > 0],
            down=[key for key, change in test.differences.items() if change < 0],
            detectable=detectable(test)[0],
        )
        for score, test in found.paired.items()
    ]


def _by_prompt(samples: Sequence[Sample], missing: set[str]) -> dict[str, list[Sample]]:
    found = defaultdict(list)
    for sample in samples:
        if sample.id not in missing:
            found[sample.id].append(sample)
    return dict(found)


def _values(prompts: Mapping[str, Sequence[Sample]], score: str) -> dict[str, list[float]]:
    return {key: [sample.scores[score].value for sample in rows] for key, rows in prompts.items()}


def _wrong(
    before: Mapping[str, Sequence[Sample]], after: Mapping[str, Sequence[Sample]], rate: str
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The wrong decisions to call before and after, of the prompts that count for a rate in both."""
    first, second = (
        {
            key: [row.wrong_decisions[rate] for row in rows if rate in row.wrong_decisions]
            for key, rows in side.items()
        }
        for side in (before, after)
    )
    keys = [key for key in first if first[key] and second.get(key)]
    return {key: first[key] for key in keys}, {key: second[key] for key in keys}


def _mean(values: Mapping[str, Sequence[float]]) -> float:
    return fmean(map(fmean, values.values()))
