"""What the CPU path is worth: the same training with it and without.

python benchmarks/cpu.py

With: OpenBLAS before mlx, float32. Without: MLX's own BLAS, the base as it is stored (4-bit, as large
models come). Tokens/s come from train.jsonl, so start-up and validation are not in them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

from punie.paths import resource

RECIPE = (
    "lora.iters=8",
    "lora.steps_per_report=8",
    "lora.save_every=8",
    "lora.val_batches=1",
    "eval.max_tokens=1",
)
CLAIM = 5
QUANTIZE = """
import sys
from pathlib import Path
import mlx_lm.utils as mlx
tiny, out = Path(sys.argv[1]), Path(sys.argv[2])
model, config = mlx.load_model(tiny)
model, config = mlx.quantize_model(model, config, 64, 4)
mlx.save_model(out, model)
mlx.save_config(config, out / "config.json")
for path in tiny.iterdir():
    if path.name.startswith(("tokenizer", "chat_template", "generation_config")):
        (out / path.name).write_bytes(path.read_bytes())
"""


def tokens_per_second(store: Path, *overrides: str) -> float:
    """Speed of one training from an empty store."""
    command = [sys.executable, "-m", "punie", f"store.dir={store}", *RECIPE, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=store.parent)
    (stream,) = store.glob("train/*/train.jsonl") if done.returncode == 0 else [None]
    if stream is None:
        raise SystemExit(done.stderr)
    records = map(json.loads, stream.read_text().splitlines())
    return next(record["tokens_per_second"] for record in records if record["kind"] == "train")


def main() -> None:
    ways = {
        "OpenBLAS, float32": (),
        "MLX's BLAS, float32": ("runtime.blas=false",),
        "MLX's BLAS, as stored": ("runtime.blas=false", "runtime.cpu_float32=false"),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        subprocess.run([sys.executable, "-c", QUANTIZE, resource("data/models/tiny"), model], check=True)
        base = (
            "model=local",
            f"model.path={model}",
            "+model.recipe.num_layers=4",
            "+model.recipe.batch_size=4",
        )
        for run in range(3):
            for number, (name, overrides) in enumerate(ways.items()):
                rates[name].append(
                    tokens_per_second(Path(scratch) / f"store{run}{number}", *base, *overrides)
                )
    medians = {name: statistics.median(values) for name, values in rates.items()}
    fastest = next(iter(medians.values()))
    rows = [[name, f"{rate:.0f}", f"{fastest / rate:.1f}"] for name, rate in medians.items()]
    print(tabulate(rows, ["tiny, batch 4", "tokens/s", "ours is faster by"], tablefmt="github"))
    print(f"\nclaimed: at least {CLAIM} times the last line; three runs of each in turn, medians")


if __name__ == "__main__":
    main()
