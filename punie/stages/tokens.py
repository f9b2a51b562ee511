"""The data as tokens: rendered by the model's own chat template, every row checked, kept by content.

Tokenized splits are artifacts of the store (``tokens``), shared by preflight and training, by every run
over the same data and tokenizer, and by the workers of a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from punie.config.schema import LoraConfig
from punie.model.device import version
from punie.stages.contract import Contents
from punie.stages.inputs import data_digests, data_folder
from punie.stages.slices import CheckedRecipe, Preflight, Train
from punie.store.artifacts import Artifact, Store
from punie.store.keys import SCHEMA
from punie.util.errors import DataError, Problems

VERSION = 2
FILE = "rows.safetensors"
_SHOWN = 20


Recipe = LoraConfig | CheckedRecipe


def tokenized(
    settings: Preflight | Train, split: str, tokenizer: Any, tokenizer_digests: dict[str, str]
) -> Artifact:
    """The tokenized examples of a split such as ``train.jsonl``; ``batches.load_rows`` reads them.

    Raises:
        Problems: Examples that cannot be trained on, the first twenty of them.
    """
    lora = settings.lora
    material = {
        "schema": SCHEMA,
        "stage": "tokens",
        "version": VERSION,
        "settings": {
            "lora.max_seq_length": lora.max_seq_length,
            "lora.mask_prompt": lora.mask_prompt,
            "lora.supervise": lora.supervise,
        },
        "contents": {"data": data_digests(settings.data.path)[split], "tokenizer": tokenizer_digests},
        "libraries": {name: version(name) for name in ("transformers", "tokenizers")},
    }

    def build(out: Path) -> Contents:
        from punie.train.batches import save_rows

        rows = tokenize(data_folder(settings.data.path) / split, tokenizer, lora)
        save_rows(out / FILE, rows)
        lengths = [len(row.tokens) for row in rows]
        return {"rows": len(rows), "tokens": sum(lengths), "longest": max(lengths)}

    artifact, _ = Store(Path(settings.store.dir)).get_or_build("tokens", material, build)
    return artifact


def tokenize(path: Path, tokenizer: Any, lora: Recipe) -> list[Any]:
    """Every row of a file as ``batches.Row``, cut to length, each with at least one supervised token."""
    from punie.data.load import load_rows
    from punie.train.batches import Row

    rows, problems = [], []
    for row in load_rows(path):
        name = f"{path.name}:{row.line}"
        try:
            tokens, spans = _spans(tokenizer, row.messages, lora)
        except Exception as error:  # a chat template is a program of the model's, and may raise anything
            found = (str(error).splitlines() or [type(error).__name__])[0]
            problems.append(DataError("The row does not render.", where=name, found=found))
            continue
        limit = lora.max_seq_length
        kept = tuple(
            (max(start, 1), min(end, limit)) for start, end in spans if max(start, 1) < min(end, limit)
        )
        if kept:
            rows.append(Row(name, tokens[:limit], kept))
        else:
            problems.append(
                DataError(
                    "Nothing of the answer is left to learn.",
                    where=name,
                    found=f"of {len(tokens)} tokens, {limit} are kept",
                    next_step="raise lora.max_seq_length, or shorten the row",
                )
            )
    if problems:
        more = len(problems) - _SHOWN
        listed = problems[:_SHOWN]
        if more > 0:
            listed.append(
                DataError(f"… and {more:,} more rows of {path.name}.", next_step="punie data check")
            )
        raise Problems(f"{path} cannot be trained on:", listed)
    return rows


def _spans(tokenizer: Any, messages: Sequence[Any], lora: Recipe) -> tuple[list[int], list[tuple[int, int]]]:
    from punie.formats.prompts import format_example, format_turns

    if lora.mask_prompt and lora.supervise == "all_turns":
        return format_turns(tokenizer, messages)
    tokens, prompt = format_example(tokenizer, messages)
    return tokens, [(prompt if lora.mask_prompt else 1, len(tokens))]
