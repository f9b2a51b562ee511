"""Scores and comparisons of a run in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from punie.evals.scores import heading
from punie.results.power import detectable_in_words, prompts_to_exclude
from punie.results.records import Evaluation, Lock, Pair, Phase, Results
from punie.results.statistics import wilson
from punie.results.verdict import prompts


def fidelity_sentence(found: Mapping[str, Any]) -> str:
    """The share of the fine-tune's gain that quantization keeps."""
    kept = found["gain_kept"]
    words = (
        "The adapter gains almost nothing there, so there is no gain to keep"
        if kept is None
        else f"The quantized model keeps {100 * kept:.1f} % of the adapter's gain in log-probability"
    )
    return (
        f"Measured on the responses of {found['rows']} validation examples ({found['tokens']} tokens). "
        f"{words}. Mean divergence from the adapter: {found['kl']:.4f} nats."
    )


def interval(results: Evaluation) -> str:
    """The execution score with its 95 % interval, in words."""
    overall = results.scores["strict"].overall
    if overall.mean is None or overall.interval is None:
        return f"none: {results.missing.count} of {results.generation.samples} responses are missing"
    low, high = overall.interval
    return f"{overall.mean:.3f}, 95 % interval {low:.2f} to {high:.2f}"


def lock_sentence(lock: Lock) -> str:
    """The format lock at the run's own sampling parameters, exact and sampled."""
    low, high = lock.at.sampled.interval
    margin = "unknown" if lock.margin.value is None else f"{lock.margin.value:.2f} logits"
    return (
        f"format lock {lock.at.total:.3f} exact, {lock.at.sampled.rate:.3f} sampled "
        f"(95 % interval {low:.2f} to {high:.2f}); smallest margin {margin}"
    )


def paired_sentence(pair: Pair) -> str:
    """A comparison of two targets."""
    low, high = pair.interval
    return (
        f"{heading(pair.score)}, {pair.before} → {pair.after}: {pair.difference:+.3f} "
        f"(95 % interval {low:+.2f} to {high:+.2f}, sign-flip p = {pair.p_value:.2g}); "
        f"{len(pair.up)} of {pair.prompts} prompts up, {len(pair.down)} down; "
        f"{detectable_in_words(pair.prompts, pair.difference, pair.detectable)}"
    )


def uncompared(results: Results) -> list[str]:
    """A sentence for each target that has no comparison."""
    compared = {pair.before for pair in results.paired}
    return [
        f"{target} is not compared: no prompt has a response from both targets"
        for target in results.targets
        if target not in compared
    ]


def baseline_sentence(results: Evaluation, phase: Phase | None) -> str | None:
    """How the overall score compares with the published one, whose responses nobody has: no paired test.

    None without a baseline or a score.
    """
    if phase is None or phase.baseline is None or phase.baseline.overall is None:
        return None
    published, score = phase.baseline.overall, results.scores.get(phase.score)
    if score is None or score.overall.mean is None:
        return None
    overall, mean = score.overall, score.overall.mean
    count = prompts(overall, results)
    low, high = wilson(mean, count)
    difference = mean - published
    words = (
        f"{heading(phase.score)} {mean:.3f} differs by {difference:+.3f} from the baseline "
        f"{published:.3f} ({phase.baseline.source}); the 95 % interval of {count} prompts, "
        f"{low:.2f} to {high:.2f},"
    )
    if not low <= published <= high:
        return f"{words} excludes it"
    if not difference:
        return f"{words} includes it"
    needed = prompts_to_exclude(mean, published)
    return f"{words} includes it; excluding it needs {needed:,} prompts"
