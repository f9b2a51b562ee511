"""Compares the responses of two runs prompt by prompt: a test for each score, the prompts that changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from punie.evals.scores import SCORERS
from punie.results.records import Sample
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
    """By score, the mean over prompts of run a and run b."""
    paired: Mapping[str, Paired]
    """By score, the test."""
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
    before, after = _by_prompt(a), _by_prompt(b)
    missing = {key for run in (before, after) for key, rows in run.items() if not _answered(rows)}
    before, after = (
        {key: rows for key, rows in run.items() if key not in missing} for run in (before, after)
    )
    if missing and not before.keys() & after.keys():
        raise NothingToCompareError("no prompt has a response in both")
    other = [key for key in before if key in after and before[key][0].prompt != after[key][0].prompt]
    if other:
        raise ValueError(f"{len(other)} prompts have another text: {', '.join(other[:5])}")
    rows = [record for run in (before, after) for rows in run.values() for record in rows]
    names = [name for name in SCORERS if all(name in record.scores for record in rows)]
    tests = {score: paired(_scores(before, score), _scores(after, score)) for score in names}
    changed = [key for key in before if any(test.differences[key] for test in tests.values())]
    return Comparison(
        means={score: (_mean(before, score), _mean(after, score)) for score in names},
        paired=tests,
        changed=tuple(_changed(key, before[key], after[key], names) for key in changed),
        left_out=tuple(sorted(missing)),
    )


def _by_prompt(records: Sequence[Sample]) -> dict[str, list[Sample]]:
    found = defaultdict(list)
    for record in records:
        found[record.id].append(record)
    return dict(found)


def _answered(rows: Sequence[Sample]) -> bool:
    return all(record.answered for record in rows)


def _scores(prompts: Mapping[str, Sequence[Sample]], score: str) -> dict[str, list[float]]:
    return {key: [record.scores[score].value for record in rows] for key, rows in prompts.items()}


def _mean(prompts: Mapping[str, Sequence[Sample]], score: str) -> float:
    return sum(sum(v) / len(v) for v in _scores(prompts, score).values()) / len(prompts)


def _changed(key: str, a: Sequence[Sample], b: Sequence[Sample], names: Sequence[str]) -> ChangedPrompt:
    means = {score: (_mean({key: a}, score), _mean({key: b}, score)) for score in names}
    words = [", ".join(dict.fromkeys(record.taxonomy for record in rows)) for rows in (a, b)]
    outputs = [tuple(record.output or "" for record in rows) for rows in (a, b)]
    return ChangedPrompt(
        key, a[0].category, a[0].prompt, means, (words[0], words[1]), (outputs[0], outputs[1])
    )
