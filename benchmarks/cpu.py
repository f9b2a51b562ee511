"""What the CPU path is worth: the same training with it and without.

    python benchmarks/cpu.py

With: OpenBLAS before mlx, float32. Without: MLX's own BLAS, the base as it is stored (4-bit, as large
models come). Tokens/s come from train.jsonl, so start-up and validation are not in them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import models
from figures import Row, punie, report

RECIPE = (
    "model=local",
    "+model.recipe.num_layers=4",
    "+model.recipe.batch_size=4",
    "lora.iters=4",
    "lora.steps_per_report=4",
    "lora.save_every=4",
    "lora.val_batches=1",
    "eval.max_tokens=1",
    "eval.lock.temperatures=[]",
)
WAYS = {
    "OpenBLAS, float32": (),
    "MLX's BLAS, float32": ("runtime.blas=false",),
    "MLX's BLAS, base as stored": ("runtime.blas=false", "runtime.cpu_float32=false"),
}


def tokens_per_second(model: Path, store: Path, overrides: tuple[str, ...]) -> float:
    """Speed of one training from an empty store."""
    punie(f"store.dir={store}", f"model.path={model}", *RECIPE, *overrides, cwd=store.parent)
    (stream,) = store.glob("train/*/train.jsonl")
    records = map(json.loads, stream.read_text().splitlines())
    return next(record["tokens_per_second"] for record in records if record["kind"] == "train")


def measure(rounds: int) -> Iterator[Row]:
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        model = models.write(Path(scratch) / "model", "--bits", 4)
        for turn in range(rounds):
            for number, (name, overrides) in enumerate(WAYS.items()):
                store = Path(scratch) / f"store{turn}{number}"
                rates[name].append(tokens_per_second(model, store, overrides))
    (_, ours), *theirs = rates.items()
    for (name, rate), aim in zip(theirs, (None, 5), strict=True):
        command = " ".join(("python -m punie model.path=MODEL", *RECIPE, *WAYS[name]))
        what = f"training 4-bit tiny, batch 4, against {name}"
        yield Row(what, ours, "tokens/s", rate, command, at_least=aim)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of the three ways in turn")
    report(measure(parser.parse_args().rounds))
