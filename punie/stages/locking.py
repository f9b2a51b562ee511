"""The format lock of an evaluation: exact curves beside the sampled rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from punie.config.schema import LockConfig
from punie.formats import Format
from punie.results.records import Lock, LockAt, LockCurve, Margin, PromptLock, Sample, Sampled
from punie.results.statistics import wilson

DIGITS = 9
"""Decimal places kept of a probability."""


def lock(
    loaded: Any,
    form: Format,
    prompts: Mapping[str, Sequence[int]],
    samples: Sequence[Sample],
    sampling: Any,
    options: LockConfig,
    *,
    done: Callable[[int], None],
) -> Lock:
    """The exact probability that a response opens a tool call, beside the sampled rate.

    The run's own temperature is added to the grid, and to the curves those without truncation and with the
    run's own. ``prompts`` are tokens up to where the response begins, by sample id; of a conversation, its
    first turn's.

    Returns:
        Means over prompts: ``strict`` is the canonical spelling at the very start, ``total`` the sum over
        all ``branches``.
    """
    from punie.model.format_lock import branches, format_lock
    from punie.model.generate import Sampling

    spellings = form.spellings
    canonical = next(iter(spellings))
    grid = sorted({*options.temperatures, sampling.temperature})
    own, plain = replace(sampling, temperature=1.0, seed=0), Sampling(1.0)
    wanted = list(dict.fromkeys([plain, *(replace(plain, top_p=value) for value in options.top_p), own]))
    found = format_lock(
        loaded.model,
        branches(loaded.tokenizer, spellings),
        list(prompts.values()),
        temperatures=grid,
        samplings=wanted,
        done=done,
    )
    curves = [
        LockCurve(
            top_p=each.top_p,
            top_k=each.top_k,
            min_p=each.min_p,
            own=each == own,
            strict=_mean([lock.curves[canonical] for lock in by_prompt]),
            total=_mean([lock.total for lock in by_prompt]),
            branches={name: _mean([lock.curves[name] for lock in by_prompt]) for name in spellings},
        )
        for each, by_prompt in zip(wanted, found, strict=True)
    ]
    mean, here = curves[wanted.index(own)], grid.index(sampling.temperature)
    locks = dict(zip(prompts, found[wanted.index(own)], strict=True))
    weakest = min(locks, key=lambda name: locks[name].margin)
    rate = sum(sample.reached[0].opening is not None for sample in samples) / len(samples)
    return Lock(
        temperatures=grid,
        curves=curves,
        prompts={
            name: PromptLock(
                margin=round(each.margin, 4),
                strict=_mean([each.curves[canonical]]),
                total=_mean([each.total]),
            )
            for name, each in locks.items()
        },
        margin=Margin(value=round(locks[weakest].margin, 4), prompt=weakest),
        at=LockAt(
            temperature=sampling.temperature,
            strict=mean.strict[here],
            total=mean.total[here],
            sampled=Sampled(rate=rate, n=len(samples), interval=wilson(rate, len(prompts))),
        ),
    )


def _mean(curves: Sequence[np.ndarray]) -> list[float]:
    return [round(float(value), DIGITS) for value in np.mean(curves, axis=0)]
