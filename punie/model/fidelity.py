"""What is left of a fine-tune after quantization, measured on validation rows.

Three models read the same rows: the base, the base with its adapter, and the quantized result. The
adapter's *gain* is how much likelier it makes the rows' own answers than the base does; the share of it
that the quantized model keeps says whether the fine-tune survived, which no size or checksum can.

Shape letters: P = positions compared in a row, T = tokens of a row, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tuner.utils import load_adapters

from punie.model.load import load
from punie.util.errors import PunieError

POSITIONS = 64
"""Positions compared in each row, from the answer's first: they hold the wrapper and the call. The bound
keeps the distributions that are held in memory small (rows * POSITIONS * V float32)."""
SMALLEST_GAIN = 0.01
"""Nats per token; an adapter that gained less has nothing whose survival could be told from noise."""


@dataclass(frozen=True)
class Fidelity:
    """Base, base with adapter, and quantized model on the same answers, teacher-forced."""

    rows: int
    tokens: int
    """Positions compared, over all rows."""
    base_logprob: float
    """Mean log-probability of an answer's tokens; nats per token."""
    adapter_logprob: float
    quantized_logprob: float
    gain_kept: float | None
    """(quantized - base) / (adapter - base); None where the adapter gained next to nothing."""
    agreement: float
    """Share of positions at which the quantized model's likeliest token is the adapter's."""
    base_agreement: float
    """The same of the base, to compare with."""
    kl: float
    """Mean divergence of the quantized model's distribution from the adapter's; nats."""


def measure(
    base: Path,
    adapter: Path,
    quantized: Path,
    rows: Sequence[tuple[list[int], int]],
    *,
    float32: bool = False,
    threads: int | None = None,
) -> Fidelity:
    """Compare the three models; no two of them are in memory together.

    Args:
        base: The base model's folder.
        adapter: The adapter's folder.
        quantized: The folder that ``fuse`` wrote.
        rows: Tokens of each row, and how many of them are prompt.
        float32: Compute in float32, as for evaluation on a CPU.
        threads: As in ``load.load``.
    """
    model = load(base, float32=float32, threads=threads).model
    plain = [(logprobs.argmax(-1), _of(logprobs, answer)) for logprobs, answer in _read(model, rows)]
    mx.eval(plain)
    model = load_adapters(model, str(adapter))
    model.eval()
    tuned = [logprobs for logprobs, _ in _read(model, rows)]
    del model
    mx.clear_cache()
    model = load(quantized, float32=float32, threads=threads).model
    sums: list[mx.array] = []
    for (logprobs, answer), before, (top, base_answer) in zip(_read(model, rows), tuned, plain, strict=True):
        best = before.argmax(-1)
        sums.append(
            mx.stack(
                [
                    base_answer.sum(),
                    _of(before, answer).sum(),
                    _of(logprobs, answer).sum(),
                    (logprobs.argmax(-1) == best).sum(),
                    (top == best).sum(),
                    (before.exp() * (before - logprobs)).sum(),
                ]
            )
        )
        mx.eval(sums)
    del model
    mx.clear_cache()
    tokens = sum(logprobs.shape[0] for logprobs in tuned)
    means = [value / tokens for value in cast(list[float], mx.stack(sums).sum(0).tolist())]
    base_logprob, adapter_logprob, quantized_logprob, agreement, base_agreement, kl = (
        round(mean, 6) for mean in means
    )
    gain = adapter_logprob - base_logprob
    return Fidelity(
        rows=len(rows),
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
    """The gate.

    Raises:
        PunieError: Less of the adapter's gain is left than was asked for.
    """
    kept = fidelity.gain_kept
    if kept is None or kept >= min_gain_kept:
        return
    more = next((f"quantize=q{width}" for width in (4, 5, 6, 8) if width > (bits or 16)), None)
    base, adapter, result = fidelity.base_logprob, fidelity.adapter_logprob, fidelity.quantized_logprob
    raise PunieError(
        "The fine-tune did not survive quantization.",
        where=f"quantize.min_gain_kept={min_gain_kept:g}",
        found=f"{kept:.2f} of the adapter's gain is left: log-probability per token {base:.3f} (base), "
        f"{adapter:.3f} (adapter), {result:.3f} (quantized); the likeliest token agrees at "
        f"{fidelity.agreement:.0%} of {fidelity.tokens} positions, divergence {fidelity.kl:.3f} nats",
        expected=f"at least {min_gain_kept:g}",
        next_step=(f"more bits: {more}; " if more else "")
        + "or accept the loss: quantize.min_gain_kept=0, or less",
    )


def _read(model: nn.Module, rows: Sequence[tuple[list[int], int]]) -> Iterator[tuple[mx.array, mx.array]]:
    """For each row log-probabilities (P, V), float32, and the answer's tokens (P,)."""
    for tokens, prompt in rows:
        start = max(prompt, 1)
        stop = min(len(tokens), start + POSITIONS)
        logits = model(mx.array([tokens[: stop - 1]]))[0, start - 1 :].astype(mx.float32)  # (P, V)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        mx.eval(logprobs)
        yield logprobs, mx.array(tokens[start:stop])


def _of(logprobs: mx.array, answer: mx.array) -> mx.array:
    """The answer's own log-probabilities, (P,)."""
    return mx.take_along_axis(logprobs, answer[:, None], axis=-1)[:, 0]
