"""Estimates the memory of a run, refuses what does not fit this machine, and suggests what would."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from punie.config.schema import Config
from punie.model import device
from punie.stages.inputs import model_config
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.model.shapes import Sizes

PROCESS = 150_000_000
"""Bytes of a process that has imported all it needs, before it holds an array."""
_CACHE_STEP = 256
"""Tokens by which mlx-lm's caches grow."""


def sizes(config: Config, *, float32: bool | None = None) -> Sizes:
    """Sizes of the config's recipe on its model; reads only the model's config.json, downloads nothing.

    ``float32`` None: as this machine computes.

    Raises:
        PunieError: Neither the model nor its dimensions are on this machine.
    """
    model, lora, quantize = config.model, config.lora, config.quantize
    if not (dimensions := model_config(config)):
        raise PunieError(
            "The size of the model is not known before it is downloaded.",
            where="model.dimensions",
            next_step=f"hf download {model.repo} config.json, and copy it to model.dimensions",
        )
    options = {
        "fine_tune_type": lora.fine_tune_type,
        "num_layers": lora.num_layers,
        "rank": lora.rank,
        "keys": lora.keys,
        "bits": quantize.bits,
        "group_size": quantize.group_size,
        "recipe": quantize.recipe,
        "float32": _in_float32(config) if float32 is None else float32,
    }
    return _sizes(json.dumps([dimensions, options]))


@functools.lru_cache
def _sizes(given: str) -> Sizes:
    """Sizes by the arguments of :func:`punie.model.shapes.sizes`, as JSON; a search for what fits asks for
    the same ones again and again, and a large model takes a second."""
    from punie.model import shapes

    dimensions, options = json.loads(given)
    return shapes.sizes(dimensions, **options)


def training_peak(config: Config, found: Sizes, row: int) -> int:
    """Bytes that training takes at its peak, without its processes; hosts have a worker each."""
    lora = config.lora
    held = found.training.held(accumulates=lora.grad_accumulation_steps > 1)
    batch = math.ceil(lora.batch_size / lora.workers) if lora.hosts else lora.batch_size
    step = found.training.step(row, batch_size=batch, grad_checkpoint=lora.grad_checkpoint)
    return _workers(config) * held + step


def training(config: Config, row: int) -> int:
    """Bytes that training takes at its peak on this machine, its processes included."""
    return _workers(config) * PROCESS + training_peak(config, sizes(config), row)


def evaluation(config: Config, answers: int, prompt: int) -> int:
    """Bytes that an evaluation takes at its peak, its process included."""
    found = sizes(config)
    weights = {
        "quantized": found.result_bytes,
        "adapter": found.base_bytes + found.adapter_bytes,
        "base": found.base_bytes,
    }[config.eval.target]
    if _in_float32(config):
        weights = 4 * found.parameters
    batch = config.eval.batch_size  # as many again wait, each with its prompt read
    read, written = min(2 * batch, answers), min(batch, answers)
    begun, whole = (
        math.ceil(length / _CACHE_STEP) * _CACHE_STEP for length in (prompt, prompt + config.eval.max_tokens)
    )
    per_sequence, per_token = found.cache_bytes
    cache = (read + written) * per_sequence + (read * begun + written * whole) * per_token
    return PROCESS + weights + cache


def shortage(
    trainings: Iterable[Config], evaluations: Iterable[Config], *, row: int, prompt: int, answers: int
) -> PunieError | None:
    """Why a run does not fit this machine, and what would make it fit; None if it fits."""
    limit = device.memory()
    if limit is None:
        return None

    def train(config: Config) -> int:
        return training(config, min(row, config.lora.max_seq_length))

    def evaluate(config: Config) -> int:
        return evaluation(config, answers, prompt)

    kinds = ((trainings, train, _smaller_recipes, row), (evaluations, evaluate, _smaller_batches, answers))
    for configs, peak, smaller, size in kinds:
        for config in configs:
            if (needed := peak(config)) > limit:
                fits = (words for words, other in smaller(config, size) if peak(other) <= limit)
                return _refusal(peak.__name__, needed, limit, next(fits, None))
    return None


def weights_shortage(config: Config, parameters: int | None) -> PunieError | None:
    """Why the weights alone do not fit a CPU in float32; does not import mlx or need the model."""
    limit = device.memory() if parameters and _in_float32(config) else None
    needed = PROCESS + 4 * (parameters or 0)
    if limit is None or needed <= limit:
        return None
    remedy = "runtime.cpu_float32=false (slow), a smaller model, or a machine with a GPU"
    return _refusal("hold the model in float32", needed, limit, remedy)


def _workers(config: Config) -> int:
    """Training processes on this machine."""
    return 1 if config.lora.hosts else config.lora.workers


def _in_float32(config: Config) -> bool:
    """Whether the model is dequantized on this machine."""
    return config.runtime.cpu_float32 and device.device_kind() == "cpu"


def _refusal(action: str, peak: int, limit: int, remedy: str | None) -> PunieError:
    return PunieError(
        f"There is not enough memory to {action}.",
        where=f"the {device.device_kind()} of this machine",
        found=f"{limit / 1e9:.1f} GB",
        expected=f"about {peak / 1e9:.1f} GB",
        next_step=remedy or "a smaller model, or a machine with more memory",
    )


def _smaller_recipes(config: Config, row: int) -> Iterator[tuple[str, Config]]:
    """Changes of the recipe, each with those before it, and the config with them."""
    lora = config.lora
    steps: list[dict[str, int]] = []
    if not lora.grad_checkpoint:
        steps.append({"grad_checkpoint": True})  # the same result, slower
    if lora.batch_size > 1:
        whole = lora.batch_size * lora.grad_accumulation_steps
        steps.append({"batch_size": 1, "grad_accumulation_steps": whole})
    steps += [{"max_seq_length": length} for length in (1024, 512, 256) if length < row]
    taken: dict[str, int] = {}
    for step in steps:
        taken |= step
        words = " ".join(f"lora.{key}={str(value).lower()}" for key, value in taken.items())
        yield words, dataclasses.replace(config, lora=dataclasses.replace(lora, **taken))


def _smaller_batches(config: Config, answers: int) -> Iterator[tuple[str, Config]]:
    """Batch sizes, the largest first, and the config with each."""
    size = min(config.eval.batch_size, answers)
    while (size := size // 2) > 0:
        smaller = dataclasses.replace(config.eval, batch_size=size)
        yield f"eval.batch_size={size}", dataclasses.replace(config, eval=smaller)
