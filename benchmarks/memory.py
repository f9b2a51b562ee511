"""The preflight's estimates of memory and disk against what a run really takes, for three sizes of model.

python benchmarks/memory.py

Every stage runs in a process of its own, and its largest resident size is what counts. Trained on the 8
longest rows of data/code_mode, so that each batch is as long as the longest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import models
from figures import Row, punie, report

from punie.config import resolve
from punie.config.compose import compose
from punie.model.device import device_kind
from punie.run import pipeline
from punie.stages import memory
from punie.store.artifacts import Store
from punie.util.paths import resource

ROWS = 8
WIDTHS = {"tiny": None, "dense 512": (512, 8), "dense 1024": (1024, 16)}
"""Width and layers of a generated model; None is the embedded one."""


def longest_rows(folder: Path) -> None:
    """A data set of the longest conversations, the same in both splits."""
    rows = sorted((resource("data/code_mode") / "train.jsonl").read_text("utf-8").splitlines(), key=len)
    folder.mkdir()
    for split in ("train", "valid"):
        (folder / f"{split}.jsonl").write_text("\n".join(rows[-ROWS:]) + "\n", "utf-8")


def one(work: Path, name: str, shape: tuple[int, int] | None, batch: int) -> Iterator[Row]:
    """Estimate and measurement of one model's training, evaluation and disk."""
    folder = resource("data/models/tiny")
    if shape is not None:
        folder = work / f"{name.replace(' ', '-')}-model"
        if not folder.exists():
            width, layers = shape
            options = ("--width", width, "--layers", layers, "--vocabulary", 32_000, "--bits", 4)
            models.write(folder, *options)
    overrides = [
        "model=local", f"model.path={folder}", "data=jsonl", f"data.path={work / 'data'}",
        "data.min_examples=1", "lora.iters=4", "lora.save_every=4", "lora.steps_per_report=1",
        f"lora.batch_size={batch}", "lora.num_layers=4", "lora.val_batches=1", "quantize.min_gain_kept=0",
        "eval.max_tokens=64", "eval.temperature=0.0", "eval.lock.temperatures=[]", "runtime.threads=1",
    ]  # fmt: skip
    cwd = work / f"{name}-{batch}"
    cwd.mkdir()
    punie(*overrides, "runtime.isolation=process", cwd=cwd)
    found = {}
    for path in cwd.glob("outputs/store/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        found[manifest["stage"]] = manifest
    facts = found["preflight"]["info"]
    row, prompt = facts["longest"]["row"], facts["longest"]["prompt"]
    config = resolve(compose(overrides))
    sizes = memory.sizes(config, float32=device_kind() == "cpu")
    disk = sum(e["size"] for each in found.values() for e in each["files"].values())
    needed = pipeline.plan(config, Store(work / "empty")).needed_bytes
    pairs = {
        "training, memory": (memory.training(config, row), found["train"]["info"]["process_peak_mb"] * 1e6),
        "evaluation, memory": (
            memory.evaluation(config, facts["prompts"], prompt),
            found["evaluate"]["info"]["process_peak_mb"] * 1e6,
        ),
        "all artifacts, disk": (needed, disk),
    }
    for what, (estimate, measured) in pairs.items():
        label = f"{what}, {name}, {sizes.parameters / 1e6:.0f} M, batch {batch}: estimated and measured"
        yield Row(
            label,
            [estimate / 1e6],
            "MB",
            [measured / 1e6],
            "the same run, measured",
            at_least=0.75,
            at_most=1.25,
        )


def measure(names: list[str], batches: list[int]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="punie-memory-") as scratch:
        work = Path(scratch)
        longest_rows(work / "data")
        for name in names:
            for batch in batches:
                yield from one(work, name, WIDTHS[name], batch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="lora.batch_size")
    parser.add_argument("--models", nargs="+", default=list(WIDTHS), choices=list(WIDTHS))
    arguments = parser.parse_args()
    report(measure(arguments.models, arguments.batches))
