"""train: fine-tune the base on the data. A killed training continues from its last checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from pathlib import Path
from typing import NamedTuple

from punie.config.schema import LoraConfig
from punie.model import folders, resolve
from punie.model.shards import adapter_bytes
from punie.stages import chats, tokens
from punie.stages.contract import LOADING, READING, Contents, Inputs, Stage
from punie.stages.inputs import (
    SPLITS,
    base_folder,
    data_digests,
    data_folder,
    model_config,
    suite_digest,
    suite_path,
)
from punie.stages.slices import Train
from punie.store.artifacts import Artifact
from punie.train.callbacks import Record
from punie.util.errors import PunieError
from punie.util.files import free_bytes
from punie.util.printable import in_bytes
from punie.util.progress import Reporter

_TOKEN = 3
"""Bytes of a data file for each token, roughly, until the examples are rendered."""


def contents(settings: Train) -> Contents:
    """Digests of the two splits, and of the suite a checkpoint is selected by."""
    found: Contents = {"data": data_digests(settings.data), **chats.contents(settings)}
    if settings.lora.select == "best_eval":
        found["select_suite"] = suite_digest(settings.lora.select_suite)
        found |= chats.judged(settings, settings.lora.select_suite)
    if settings.lora.cache_frozen == "off" and _frozen_layers(settings)[0] != 0:  # it rounds otherwise
        found["frozen_layers"] = "computed with every batch"
    return found


class Length(NamedTuple):
    """How long a training is."""

    iters: int
    updates: int
    """Optimizer steps."""
    examples: int
    """That it trains on."""
    in_words: str

    def passes(self, lora: LoraConfig) -> float:
        """How often it takes an example, on average."""
        return self.iters * lora.batch_size / self.examples


def length(lora: LoraConfig, examples: int) -> Length:
    """The planned length of a training on so many examples."""
    epoch = math.ceil(examples / lora.batch_size)
    iters = lora.iters if lora.iters is not None else (lora.epochs or 1) * epoch
    updates = math.ceil(iters / lora.grad_accumulation_steps)
    epochs = f"{iters / epoch:.3g}"
    epochs += " epoch" if epochs == "1" else " epochs"
    words = f"{iters:,} iterations, {updates:,} optimizer steps: {epochs} of {examples:,} examples"
    if lora.patience is not None:
        waits = f"{lora.patience} checkpoint{'s' * (lora.patience > 1)}"
        can = (lora.patience + 1) * lora.save_every < iters
        words += f"; it stops after {waits} without improvement" if can else f"; {waits} cannot stop it"
        words += f" (there is one every {lora.save_every:,} iterations)"
    return Length(iters, updates, examples, words)


def planned(settings: Train) -> tuple[Length, bool]:
    """The planned length, and whether it is certain: until the examples are rendered, each row counts as one.

    Raises:
        PunieError: The data cannot be read.
    """
    train, _ = SPLITS
    if (found := _known(settings, train)) is not None:
        return length(settings.lora, found.info["rows"]), True
    with (data_folder(settings.data) / train).open("rb") as lines:
        return length(settings.lora, max(1, sum(bool(line.strip()) for line in lines))), False


class Frozen(NamedTuple):
    """What keeping the frozen layers' output takes and saves, roughly."""

    layers: int
    depth: int
    """All layers of the model."""
    bytes: int
    passes: float
    """How often these layers would be computed for an example otherwise."""

    @property
    def in_words(self) -> str:
        """For a plan."""
        return (
            f"the output of {self.layers} of {self.depth} layers is kept (about {in_bytes(self.bytes)}): "
            f"computed once for an example, not {self.passes:.1f} times"
        )


def frozen(settings: Train, passes: float) -> Frozen | None:
    """What is kept where so many passes over the examples are made; None where nothing is.

    Whether the model's architecture allows it shows when it is loaded.

    Raises:
        PunieError: The data cannot be read.
    """
    lora, store = settings.lora, Path(settings.store.dir)
    layers, depth = _frozen_layers(settings)
    width = folders.width(_config(settings))
    if not layers or depth is None or width is None:
        return None
    if lora.cache_frozen == "off" or (lora.cache_frozen == "auto" and passes < 1):
        return None
    found = [_known(settings, split) for split in SPLITS]
    files = [data_folder(settings.data) / split for split in SPLITS]
    tokens = sum(
        file.stat().st_size // _TOKEN if each is None else each.info["tokens"]
        for each, file in zip(found, files, strict=True)
    )
    size = tokens * width * (4 if settings.runtime.float32 else 2)
    return None if size > most_kept(lora.cache_gb, store) else Frozen(layers, depth, size, passes)


def most_kept(gigabytes: float, store: Path) -> float:
    """Most bytes that the frozen layers' output may take: half of the free disk, or less."""
    return min(gigabytes * 1e9, free_bytes(store) / 2)


def _frozen_layers(settings: Train) -> tuple[int | None, int | None]:
    """Layers below the first trained one, and all layers; None as long as that is not known."""
    depth, trained = folders.depth(_config(settings)), settings.lora.num_layers
    if depth is None:
        return None if trained > 0 else 0, None
    return max(0, depth - trained) if trained > 0 else 0, depth


def _config(settings: Train) -> folders.ModelJson:
    try:
        return model_config(settings)
    except PunieError:  # another stage reports it
        return {}


def _known(settings: Train, split: str) -> Artifact | None:
    """The tokenized examples of a split, if the model and they are on this machine."""
    with contextlib.suppress(resolve.NotCached):
        return tokens.known(settings, split, folders.tokenizer_contents(base_folder(settings)))
    return None


def run(settings: Train, inputs: Inputs, out: Path, reporter: Reporter) -> Contents:
    """Write the adapter in mlx-lm's format, ``train.jsonl`` and ``checkpoints/``.

    ``out`` may hold the checkpoints of a killed run of the same training.
    """
    from punie.model import load
    from punie.stages import training

    lora, folder = settings.lora, base_folder(settings)
    tokenizer = load.tokenizer(folder)
    digests = folders.tokenizer_contents(folder)
    with contextlib.ExitStack() as held:
        train, valid = (
            tokens.tokenized(settings, split, tokenizer, digests, leases=held) for split in SPLITS
        )
        iters, *_, words = length(lora, train.info["rows"])
        reporter.line(f"  {words}")
        job = training.Job(
            out=str(out),
            base=str(folder),
            base_key=inputs["base"].key,
            train=str(train.file(tokens.FILE)),
            valid=str(valid.file(tokens.FILE)),
            lock=str(Path(settings.store.dir).absolute() / ".locks" / f"{out.name}.lock"),
            parent=os.getpid(),
            lora={**dataclasses.asdict(lora), "iters": iters},
            format=chats.name(settings),
            tools=[tool.declaration for tool in chats.tools(settings)],
            options=chats.options(settings),
            system=chats.system_prompt(settings, None),
            select_suite=str(suite_path(lora.select_suite)) if lora.select == "best_eval" else None,
            float32=settings.runtime.float32,
            blas=settings.runtime.blas,
            threads=settings.runtime.threads,
            store=settings.store.dir,
        )
        bar = held.enter_context(reporter.bar("training", iters, "iterations"))
        latest: dict[str, str] = {}

        def report(record: Record) -> None:
            nonlocal latest
            kind = record.get("kind")
            latest.pop("doing", None)
            if kind == "opening":
                reporter.line(f"  all examples begin with the same {record['tokens']:,} tokens: once a batch")
                return
            if kind == "doing":
                latest = {kind: record["what"]}
                if not reporter.console.is_terminal:
                    reporter.line(f"  {record['what']} …")
            if kind == "frozen":
                latest[kind] = f"frozen layers: {record['done']} of {record['of']} examples"
            else:
                latest.pop("frozen", None)
            if kind in ("train", "valid"):
                speed = f"  {record['tokens_per_second']:.0f} tokens/s" if kind == "train" else ""
                latest[kind] = f"{kind} loss {record['loss']:.3f}{speed}"
            bar(record["iter"], "  ".join(latest[kind] for kind in sorted(latest)))

        trained = training.launch(job, report) if lora.workers > 1 else training.work(job, report)
    if trained["resumed_from"]:
        reporter.line(f"  resumed from the checkpoint at iteration {trained['resumed_from']}")
    if trained["stopped"]:
        after = f"stopped at iteration {trained['iters']} of {trained['planned_iters']}"
        reporter.line(f"  {after}: {trained['stopped']}, whose weights are the result")
    for warning in trained["warnings"]:
        reporter.line(f"  note: {warning}", style="yellow")
    return trained


def disk(settings: Train, parameters: int) -> int:
    """Bytes of adapter, checkpoints and the frozen layers' output; 0 where the model is not here yet."""
    lora = settings.lora
    try:
        adapter = adapter_bytes(
            base_folder(settings),
            fine_tune_type=lora.fine_tune_type,
            num_layers=lora.num_layers,
            rank=lora.rank,
            keys=lora.keys,
        )
    except resolve.NotCached:
        return 0
    most = lora.keep_checkpoints if lora.iters is None else math.ceil(lora.iters / lora.save_every)
    kept = None
    with contextlib.suppress(PunieError):  # the data's, which another stage reports
        kept = frozen(settings, planned(settings)[0].passes(lora))
    return (1 + min(lora.keep_checkpoints, most)) * adapter + (kept.bytes if kept else 0)


_SOURCES = (
    *READING,
    *LOADING,
    "model/trainable.py",
    "stages/tokens.py",
    "stages/train.py",
    "stages/training.py",
    "train",
)
_SELECTING = (
    *("evals", "model/generate.py", "stages/answering.py"),
    *("results/records", "results/scoring.py", "results/statistics.py"),
)
"""Further ones where a suite selects the checkpoint."""
STAGE = Stage(
    name="train",
    version=4,
    reads=Train,
    needs=lambda _: ("base",),
    sources=lambda settings: _SOURCES + (_SELECTING if settings.lora.select == "best_eval" else ()),
    contents=contents,
    run=run,
    libraries=("mlx", "mlx-lm", "transformers", "tokenizers"),
    computes=True,
    disk=disk,
    memory="training",
    resumable=True,
)
