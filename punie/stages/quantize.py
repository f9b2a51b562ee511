"""quantize: fuses the adapter into the base and quantizes the sum, to a model folder that mlx-lm loads.

The loss of quality is measured on validation examples and recorded; a run fails if it is too large.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from punie.stages import chats
from punie.stages.contract import LOADING, READING, Contents, Inputs, Stage
from punie.stages.inputs import base_folder, data_digests, data_folder
from punie.stages.slices import Likelihood, Quantize
from punie.util.progress import Reporter

_SPLIT = "valid.jsonl"


def contents(settings: Quantize) -> Contents:
    """Digest of the examples on which the result is measured."""
    if not settings.quantize.fidelity_rows:
        return {}
    return {"data": {_SPLIT: data_digests(settings.data)[_SPLIT]}, **chats.contents(settings)}


def run(settings: Quantize, inputs: Inputs, out: Path, reporter: Reporter) -> Contents:
    """Write the model folder, and measure its quality.

    Raises:
        PunieError: The inputs do not fit together, or the fine-tune did not survive.
    """
    from punie.model import fidelity, load
    from punie.model.fuse import fuse

    quantize, adapter, folder = settings.quantize, inputs["train"], base_folder(settings)
    adapter.verify_once()
    info = fuse(
        folder,
        adapter.path,
        out,
        base_key=inputs["base"].key,
        bits=quantize.bits,
        group_size=quantize.group_size,
        recipe=quantize.recipe,
        shard_mb=quantize.shard_mb,
    )
    compared = examples(settings, load.tokenizer(folder), quantize.fidelity_rows)
    if not compared:
        return info
    measured = fidelity.measure(
        folder,
        adapter.path,
        out,
        compared,
        float32=settings.runtime.float32,
        threads=settings.runtime.threads,
    )
    fidelity.require_kept(measured, quantize.min_gain_kept, quantize.bits)
    return info | {"fidelity": dataclasses.asdict(measured)}


def examples(settings: Quantize | Likelihood, tokenizer: Any, most: int) -> list[tuple[list[int], int]]:
    """Validation examples, evenly spread over the file: tokens and prompt length."""
    from punie.data.load import load_rows
    from punie.data.rows import Check

    if not most:
        return []
    rows = load_rows(data_folder(settings.data) / _SPLIT)
    count, chat = min(most, len(rows)), chats.chat(settings, tokenizer)
    check = Check(
        chat.format,
        chat,
        {tool.name: tool for tool in chats.tools(settings)},
        limit=settings.lora.max_seq_length,
        mask_prompt=settings.lora.mask_prompt,
        declared=False,  # training has checked the calls
    )
    found = (check.row(rows[i * len(rows) // count]).examples for i in range(count))
    return [(each.tokens, each.spans[0][0]) for examples in found for each in examples]


def disk(settings: Quantize, parameters: int) -> int:
    """Bytes of the quantized model, with a 16-bit scale and bias for each group (affine)."""
    options = settings.quantize
    bits = max(options.bits or 0, 6) if options.recipe else options.bits
    return int(parameters * (16 if bits is None else bits + 32 / options.group_size) / 8)


_SOURCES = ("model/fidelity.py", "model/fuse.py", "model/layout.py", "stages/quantize.py")
STAGE = Stage(
    name="quantize",
    version=2,
    reads=Quantize,
    needs=lambda _: ("base", "train"),
    sources=lambda _: (*READING, *LOADING, *_SOURCES),
    contents=contents,
    run=run,
    libraries=("mlx", "mlx-lm"),
    computes=True,
    disk=disk,
    transient=lambda settings: settings.quantize.keep == "until_evaluated",
)
