"""What a run takes of memory, from the model's config alone, and what would make it fit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from punie.config.schema import Config
from punie.model import device, resolve
from punie.model.resolve import NotCached
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.model.shapes import Sizes

PROCESS = 150_000_000
"""Bytes of a process that has imported all it needs, before it holds an array."""
_CACHE_STEP = 256
"""Tokens by which MLX-LM's caches grow."""


def sizes(config: Config, *, float32: bool) -> Sizes:
    """Sizes of the config's recipe on its model; nothing is downloaded or read but config.json.

    Args:
        config: The run's.
        float32: The model is dequantized and computes in float32, as on a CPU.

    Raises:
        PunieError: Neither the model nor its dimensions are on this machine.
    """
    from punie.model import shapes

    lora, quantize = config.lora, config.quantize
    return shapes.sizes(
        _dimensions(config),
        fine_tune_type=lora.fine_tune_type,
        num_layers=lora.num_layers,
        rank=lora.rank,
        scale=lora.scale,
        keys=lora.keys,
        bits=quantize.bits,
        group_size=quantize.group_size,
        recipe=quantize.recipe,
        batch_size=lora.batch_size,
        accumulates=lora.grad_accumulation_steps > 1,
        grad_checkpoint=lora.grad_checkpoint,
        float32=float32,
    )


def _in_float32(config: Config) -> bool:
    """Whether the model is dequantized, here."""
    return config.runtime.cpu_float32 and device.device_kind() == "cpu"


def training(config: Config, row: int) -> int:
    """Bytes that training takes at its peak on this machine, its processes included.

    Args:
        config: The run's.
        row: Tokens of the longest row.
    """
    found, workers = sizes(config, float32=_in_float32(config)).training, config.lora.workers
    if config.lora.hosts:  # each has one worker, and its share of a batch
        share = math.ceil(found.batch_size / workers)
        return PROCESS + dataclasses.replace(found, batch_size=share).peak(row)
    return workers * PROCESS + found.peak(row) + (workers - 1) * (found.weights + found.state)


def evaluation(config: Config, answers: int, prompt: int) -> int:
    """Bytes that an evaluation takes at its peak, its process included.

    Args:
        config: The run's.
        answers: How many there are: no more than ``eval.batch_size`` are written at a time.
        prompt: Tokens of the longest prompt.
    """
    found = sizes(config, float32=_in_float32(config))
    weights = {
        "quantized": found.result_bytes,
        "adapter": found.base_bytes + found.adapter_bytes,
        "base": found.base_bytes,
    }[config.eval.target]
    if _in_float32(config):
        weights = 4 * found.parameters
    batch = config.eval.batch_size  # as many again wait, each with its prompt read
    read, written = min(2 * batch, answers), min(batch, answers)
    tokens = read * _rounded(prompt) + written * _rounded(prompt + config.eval.max_tokens)
    per_sequence, per_token = found.cache_bytes
    return PROCESS + weights + (read + written) * per_sequence + tokens * per_token


def _rounded(tokens: int) -> int:
    """The places that a cache makes for so many tokens."""
    return math.ceil(tokens / _CACHE_STEP) * _CACHE_STEP


def shortage(
    trainings: Iterable[Config], evaluations: Iterable[Config], *, row: int, prompt: int, answers: int
) -> PunieError | None:
    """Why a run does not fit this machine, and what would make it fit; None if it does.

    Args:
        trainings: The config of each that is still to be run.
        evaluations: Likewise; they may differ in their target.
        row: Tokens of the longest row, cut to length.
        prompt: Tokens of the longest prompt.
        answers: How many the evaluation asks for.
    """
    limit = device.memory()
    if limit is None:
        return None
    for config in trainings:
        if (peak := training(config, row)) > limit:
            return _refusal("train", peak, limit, _training_fits(config, row, limit))
    for config in evaluations:
        if (peak := evaluation(config, answers, prompt)) > limit:
            return _refusal("evaluate", peak, limit, _evaluation_fits(config, answers, prompt, limit))
    return None


def _refusal(stage: str, peak: int, limit: int, remedy: str | None) -> PunieError:
    return PunieError(
        f"There is not enough memory to {stage}.",
        where=f"the {device.device_kind()} of this machine",
        found=f"{limit / 1e9:.1f} GB",
        expected=f"about {peak / 1e9:.1f} GB",
        next_step=remedy or "a smaller model, or a machine with more memory",
    )


def _training_fits(config: Config, row: int, limit: int) -> str | None:
    """The first changes of the recipe, taken together, with which it fits."""
    lora = config.lora
    steps: list[dict[str, Any]] = []
    if not lora.grad_checkpoint:
        steps.append({"grad_checkpoint": True})  # the same result, slower
    if lora.batch_size > 1:
        rows = lora.batch_size * lora.grad_accumulation_steps
        steps.append({"batch_size": 1, "grad_accumulation_steps": rows})
    steps += [{"max_seq_length": length} for length in (1024, 512, 256) if length < row]
    taken: dict[str, Any] = {}
    for step in steps:
        taken |= step
        smaller = dataclasses.replace(config, lora=dataclasses.replace(lora, **taken))
        if training(smaller, min(row, taken.get("max_seq_length", row))) <= limit:
            return " ".join(f"lora.{key}={str(value).lower()}" for key, value in taken.items())
    return None


def _evaluation_fits(config: Config, answers: int, prompt: int, limit: int) -> str | None:
    """The largest batch that fits."""
    for size in _halves(min(config.eval.batch_size, answers)):
        smaller = dataclasses.replace(config, eval=dataclasses.replace(config.eval, batch_size=size))
        if evaluation(smaller, answers, prompt) <= limit:
            return f"eval.batch_size={size}"
    return None


def _halves(number: int) -> Iterator[int]:
    while number > 1:
        number //= 2
        yield number


def _dimensions(config: Config) -> dict[str, Any]:
    """The model's own config.json where it is here, else what the preset says of it."""
    model = config.model
    try:
        folder = resolve.locate(
            embedded=model.embedded, path=model.path, repo=model.repo, revision=model.revision
        )
    except NotCached:
        if model.dimensions:
            return model.dimensions
        raise PunieError(
            "The size of the model is not known before it is here.",
            where="model.dimensions",
            next_step=f"hf download {model.repo} config.json, and put what it says under model.dimensions",
        ) from None
    return resolve.read_config(folder)
