"""The format lock of an evaluation: exact curves beside the rate that was sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from punie import formats
from punie.results.statistics import wilson

DIGITS = 9
"""Decimal places kept of a probability."""


def lock(
    loaded: Any,
    prompts: Mapping[str, Sequence[int]],
    records: Sequence[Mapping[str, Any]],
    sampling: Any,
    *,
    temperatures: Sequence[float],
    top_p: Sequence[float],
    done: Callable[[int], None],
) -> dict[str, Any]:
    """The probability that an answer opens the wrapper, as ``results.json`` holds it.

    Args:
        loaded: ``load.Loaded``.
        prompts: By sample id, the tokens up to where the answer begins.
        records: The answers that were sampled.
        sampling: How they were: ``generate.Sampling``.
        temperatures: The grid; the run's own is added.
        top_p: A curve for each; those without truncation and with the run's own are added.
        done: Called with the number of finished prompts.

    Returns:
        ``temperatures``; ``curves``, each with its truncation, whether it is the run's ``own``, and means
        over prompts of ``strict`` (the canonical spelling at the very start), of each of the ``branches``
        and of their sum ``total``; ``prompts``, by id the ``margin`` in logits and the run's own curves;
        ``margin``, the smallest with its ``prompt``; ``at``, exact against ``sampled`` at the run's own
        temperature, the latter with its 95 % interval.
    """
    from punie.model.format_lock import branches, format_lock
    from punie.model.generate import Sampling

    spellings = formats.chosen().spellings
    canonical = next(iter(spellings))
    grid = sorted({*temperatures, sampling.temperature})
    own = replace(sampling, temperature=1.0, seed=0)
    plain = Sampling(1.0)
    wanted = list(dict.fromkeys([plain, *(replace(plain, top_p=value) for value in top_p), own]))
    found = format_lock(
        loaded.model,
        branches(loaded.tokenizer, spellings),
        list(prompts.values()),
        temperatures=grid,
        samplings=wanted,
        done=done,
    )
    locks = dict(zip(prompts, found[wanted.index(own)], strict=True))
    weakest = min(locks, key=lambda name: locks[name].margin)
    here = grid.index(sampling.temperature)
    opened = [record["opening"] is not None for record in records]
    rate = sum(opened) / len(opened)
    return {
        "temperatures": grid,
        "curves": [
            {
                **{key: value for key, value in asdict(each).items() if key not in ("temperature", "seed")},
                "own": each == own,
                "strict": _mean([lock.curves[canonical] for lock in by_prompt]),
                "total": _mean([lock.total for lock in by_prompt]),
                "branches": {name: _mean([lock.curves[name] for lock in by_prompt]) for name in spellings},
            }
            for each, by_prompt in zip(wanted, found, strict=True)
        ],
        "prompts": {
            name: {
                "margin": round(lock.margin, 4),
                "strict": _plain(lock.curves[canonical]),
                "total": _plain(lock.total),
            }
            for name, lock in locks.items()
        },
        "margin": {"value": round(locks[weakest].margin, 4), "prompt": weakest},
        "at": {
            "temperature": sampling.temperature,
            "strict": _mean([lock.curves[canonical] for lock in locks.values()])[here],
            "total": _mean([lock.total for lock in locks.values()])[here],
            "sampled": {"rate": rate, "n": len(opened), "interval": list(wilson(rate, len(prompts)))},
        },
    }


def _mean(curves: Sequence[np.ndarray]) -> list[float]:
    return _plain(np.mean(curves, axis=0))


def _plain(curve: np.ndarray) -> list[float]:
    return [round(float(value), DIGITS) for value in curve]
