"""Measures the quality of a quantized model on validation examples: how much of the fine-tune is left.

Three models read the same examples: the base, the base with its adapter, and the quantized result. The
adapter's *gain* is the increase of the responses' log-probability over the base; the share of it that the
quantized model keeps says whether the fine-tune survived.

Shapes: P positions compared in an example, T tokens of it, V the vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tuner.utils import load_adapters

from punie.model.load import load
from punie.util.errors import PunieError

POSITIONS = 64
"""Positions compared in each example, from the response's first token: they hold the tool call. The limit
keeps the distributions in memory small (examples * POSITIONS * V float32)."""
SMALLEST_GAIN = 0.01
"""Nats per token; a smaller gain cannot be told from noise."""


@dataclass(frozen=True)
class Fidelity:
    """Base, base with adapter, and quantized model on the same responses, teacher-forced."""

    rows: int
    tokens: int
    """Positions compared, over all examples."""
    base_logprob: float
    """Mean log-probability of a response's tokens; nats per token."""
    adapter_logprob: float
    quantized_logprob: float
    gain_kept: float | None
    """(quantized - base) / (adapter - base); None if the adapter gained less than ``SMALLEST_GAIN``."""
    agreement: float
    """Top-1 agreement of the quantized model with the adapter; share of positions."""
    base_agreement: float
    """Top-1 agreement of the base with the adapter, to compare with."""
    kl: float
    """Mean KL divergence of the quantized model's distribution from the adapter's; nats."""


def measure(
    base: Path,
    adapter: Path,
    quantized: Path,
    examples: Sequence[tuple[list[int], int]],
    *,
    float32: bool = False,
    threads: int | None = None,
) -> Fidelity:
    """Compare the three models, one in memory at a time; examples are tokens, and how many are prompt."""
    model = load(base, float32=float32, threads=threads).model
    plain = [(logprobs.argmax(-1), _of(logprobs, answer)) for logprobs, answer in _read(model, examples)]
    mx.eval(plain)
    model = load_adapters(model, str(adapter))
    model.eval()
    tuned = [logprobs for logprobs, _ in _read(model, examples)]
    del model
    mx.clear_cache()
    model = load(quantized, float32=float32, threads=threads).model
    sums: list[mx.array] = []
    for (logprobs, answer), before, (top, base_answer) in zip(
        _read(model, examples), tuned, plain, strict=True
    ):
        best = before.argmax(-1)
        found = (
            base_answer,
            _of(before, answer),
            _of(logprobs, answer),
            logprobs.argmax(-1) == best,
            top == best,
            before.exp() * (before - logprobs),
        )
        sums.append(mx.stack([each.sum() for each in found]))
        mx.eval(sums)
    del model
    mx.clear_cache()
    tokens = sum(logprobs.shape[0] for logprobs in tuned)
    means = [value / tokens for value in cast(list[float], mx.stack(sums).sum(0).tolist())]
    base_logprob, adapter_logprob, quantized_logprob, *others = (round(mean, 6) for mean in means)
    agreement, base_agreement, kl = others
    gain = adapter_logprob - base_logprob
    return Fidelity(
        rows=len(examples),
        tokens=tokens,
        base_logprob=base_logprob,
        adapter_logprob=adapter_logprob,
        quantized_logprob=quantized_logprob,
        gain_kept=round((quantized_logprob - base_logprob) / gain, 4) if gain >= SMALLEST_GAIN else None,
        agreement=agreement,
        base_agreement=base_agreement,
        kl=kl,
    )


def require_kept(fidelity: Fidelity, min_gain_kept: float, bits: int | None) -> None:
    """Check that the fine-tune survived.

    Raises:
        PunieError: A model does not compute, or the share of the gain that is left is below
            ``min_gain_kept``.
    """
    _require_finite(fidelity)
    kept = fidelity.gain_kept
    if kept is None or kept >= min_gain_kept:
        return
    more = next((f"more bits: quantize=q{width}; " for width in (4, 5, 6, 8) if width > (bits or 16)), "")
    base, adapter, result = fidelity.base_logprob, fidelity.adapter_logprob, fidelity.quantized_logprob
    raise PunieError(
        "The fine-tune did not survive quantization.",
        where=f"quantize.min_gain_kept={min_gain_kept:g}",
        found=f"{kept:.2f} of the adapter's gain is left: log-probability per token {base:.3f} (base), "
        f"{adapter:.3f} (adapter), {result:.3f} (quantized); top-1 agreement with the adapter "
        f"{fidelity.agreement:.0%} of {fidelity.tokens} positions, KL divergence {fidelity.kl:.3f} nats",
        expected=f"at least {min_gain_kept:g}",
        next_step=f"{more}or accept the loss: quantize.min_gain_kept=0, or less",
    )


def _require_finite(fidelity: Fidelity) -> None:
    """Refuse a model whose log-probabilities are no numbers: no loss of quality that one could accept."""
    remedies = {
        "base": "try another base model, or one in bfloat16",
        "adapter": "train with a smaller lora.learning_rate or lora.scale",
        "quantized": "quantize=none shows whether the fused weights compute; then other bits or group size",
    }
    for name, remedy in remedies.items():
        value = getattr(fidelity, f"{name}_logprob")
        if not math.isfinite(value):
            raise PunieError(
                f"The {name} model computes no numbers."
                if name != "adapter"
                else "The base with its adapter computes no numbers.",
                where="the quantization-quality check",
                found=f"log-probability per token {value}",
                expected="a finite number",
                next_step=remedy,
            )


def token_logprobs(model: nn.Module, tokens: list[int], prompt: int) -> list[float]:
    """The log-probability of every token after the first ``prompt`` ones, of which there is at least one."""
    ((logprobs, answer),) = _read(model, [(tokens, prompt)], len(tokens))
    return cast(list[float], _of(logprobs, answer).tolist())


def choices(
    model: nn.Module, prompt: Sequence[int], answer: Sequence[int], prefix: int, cache: list[Any]
) -> list[tuple[float, int, float]]:
    """For every token of an answer: its log-probability; the likeliest token; and that one's.

    ``cache`` holds the first ``prefix`` tokens of the prompt, and is not changed.
    """
    tokens = mx.array([[*prompt, *answer][prefix:-1]])
    logits = model(tokens, cache=copy.deepcopy(cache))[0, -len(answer) :].astype(mx.float32)  # (P, V)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    found = _of(logprobs, mx.array(list(answer))), logprobs.argmax(-1), logprobs.max(-1)
    return list(zip(*(cast(list[Any], each.tolist()) for each in found), strict=True))


def _read(
    model: nn.Module, examples: Sequence[tuple[list[int], int]], positions: int = POSITIONS
) -> Iterator[tuple[mx.array, mx.array]]:
    """For each example the log-probabilities (P, V), float32, and the response's tokens (P,)."""
    for tokens, prompt in examples:
        start = max(prompt, 1)
        stop = min(len(tokens), start + positions)
        logits = model(mx.array([tokens[: stop - 1]]))[0, start - 1 :].astype(mx.float32)  # (P, V)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        mx.eval(logprobs)
        yield logprobs, mx.array(tokens[start:stop])


def _of(logprobs: mx.array, answer: mx.array) -> mx.array:
    """The log-probabilities of the response's tokens, (P,)."""
    return mx.take_along_axis(logprobs, answer[:, None], axis=-1)[:, 0]
