"""train: fine-tune an adapter on the data → adapter, checkpoints, metrics stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.errors import DataError, Problems, PunieError
from punie.prompts import format_example
from punie.stages.contract import Settings, Stage
from punie.stages.inputs import base_folder, data_digests, data_folder
from punie.store.artifacts import Artifact

if TYPE_CHECKING:
    from punie.progress import Reporter


def contents(settings: Settings) -> dict[str, Any]:
    """Digests of the two splits."""
    return {"data": data_digests(settings.data.path)}


def run(settings: Settings, inputs: Mapping[str, Artifact], out: Path, reporter: Reporter) -> dict[str, Any]:
    """Write the adapter in mlx-lm's format, ``train.jsonl`` and ``checkpoints/``."""
    from punie.backend import load, train
    from punie.backend.device import device_kind

    lora, folder = settings.lora, data_folder(settings.data.path)
    loaded = load.load(base_folder(settings), float32=settings.runtime.cpu_float32 and device_kind() == "cpu")
    rows, valid = (
        tokenize(folder / f"{split}.jsonl", loaded.tokenizer, lora) for split in ("train", "valid")
    )
    adapter_config = train.attach_adapter(
        loaded.model,
        num_layers=lora.num_layers,
        rank=lora.rank,
        scale=lora.scale,
        dropout=lora.dropout,
        keys=lora.keys,
        dora=lora.fine_tune_type == "dora",
        seed=lora.seed,
    )
    base = inputs["base"]
    with reporter.bar("training", lora.iters, "iterations") as bar:
        latest = {"train": "", "valid": ""}

        def report(record: dict[str, Any]) -> None:
            if kind := record.get("kind"):
                latest[kind] = f"{kind} loss {record['loss']:.3f}"
                if kind == "train":
                    latest[kind] += f"  {record['tokens_per_second']:.0f} tokens/s"
            bar(record["iter"], "  ".join(note for note in latest.values() if note))

        trained = train.train(
            loaded.model,
            rows,
            valid,
            out=out,
            adapter_config={**adapter_config, "base_key": base.key},
            iters=lora.iters,
            batch_size=lora.batch_size,
            grad_accumulation_steps=lora.grad_accumulation_steps,
            learning_rate=lora.learning_rate,
            optimizer=lora.optimizer,
            max_seq_length=lora.max_seq_length,
            steps_per_report=lora.steps_per_report,
            steps_per_eval=lora.steps_per_eval,
            val_batches=lora.val_batches,
            save_every=lora.save_every,
            select=lora.select,
            grad_checkpoint=lora.grad_checkpoint,
            seed=lora.seed,
            report=report,
        )
    return dataclasses.asdict(trained)


def tokenize(path: Path, tokenizer: Any, lora: Any) -> list[Any]:
    """Every row as tokens, checked: each keeps at least one supervised token.

    Args:
        path: A JSONL file.
        tokenizer: The model's.
        lora: ``max_seq_length`` and ``mask_prompt`` count.

    Raises:
        Problems: Rows that cannot be trained on, all of them.
    """
    from punie.backend.train import Row
    from punie.datasets.load import load_rows

    rows, problems = [], []
    for row in load_rows(path):
        name = f"{path.name}:{row.line}"
        try:
            tokens, prompt = format_example(tokenizer, row.messages)
        except Exception as error:  # a chat template is a program of the model's, and may raise anything
            problems.append(
                DataError("The row does not render.", where=name, found=str(error).splitlines()[0])
            )
            continue
        prompt = prompt if lora.mask_prompt else 0
        if min(len(tokens), lora.max_seq_length) <= max(prompt, 1):
            problems.append(
                DataError(
                    "Nothing of the answer is left to learn.",
                    where=name,
                    found=f"{prompt} of {len(tokens)} tokens are prompt, {lora.max_seq_length} are kept",
                    next_step="raise lora.max_seq_length, or shorten the row",
                )
            )
            continue
        rows.append(Row(name, tokens, prompt))
    if problems:
        raise Problems(f"{path} cannot be trained on:", problems[:20])
    if not rows:
        raise PunieError("The split is empty.", where=path)
    return rows


STAGE = Stage(
    name="train",
    version=1,
    reads=("model", "data.path", "lora", "runtime.blas", "runtime.cpu_float32", "runtime.threads"),
    needs=lambda _: ("base",),
    contents=contents,
    run=run,
    computes=True,
)
