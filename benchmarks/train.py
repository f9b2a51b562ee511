"""Training against mlx-lm's own: supervised tokens a second, side by side, and what resuming costs.

    python benchmarks/train.py             tiny, batch 8: float32 with OpenBLAS for both; 4-bit as installed
    python benchmarks/train.py --large     also a generated 4-bit model of about 200 M parameters (20 minutes)

Both sides train on data/code_mode with the prompt masked, LoRA rank 8 on every layer, no validation in
the timed part; supervised tokens are counted the same way for both. Each figure is the median of several
runs, A and B in turn; ratios are of the medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

from punie.paths import resource

PREPARE = """
import json, sys
from pathlib import Path
from punie.backend import blas
blas.activate()
import mlx.core as mx, mlx.nn as nn
from mlx_lm.models import qwen3
from mlx_lm.utils import load_model, quantize_model, save_config, save_model
import shutil
tiny, out, large = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "large"
if large:
    config = json.loads((tiny / "config.json").read_text())
    sparse = ("decoder_sparse_step", "mlp_only_layers")
    config = {k: v for k, v in config.items() if "expert" not in k and k not in sparse}
    config |= {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024,
               "num_hidden_layers": 16, "intermediate_size": 3072, "num_attention_heads": 16,
               "num_key_value_heads": 8, "head_dim": 64}
    mx.random.seed(0)
    model = qwen3.Model(qwen3.ModelArgs.from_dict(config))
    model.set_dtype(mx.bfloat16)
else:
    model, config = load_model(tiny)
for name, bits in (("float32", None), ("4bit", 4)):
    folder = out / name
    folder.mkdir(parents=True)
    copy = model
    settings = dict(config)
    if bits:
        copy, settings = quantize_model(model, settings, 64, bits)
    elif large:
        continue  # both sides of the large comparison start from the 4-bit folder
    else:
        copy.set_dtype(mx.float32)
    save_model(folder, copy)
    save_config(settings, folder / "config.json")
    for path in tiny.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "generation_config")):
            shutil.copyfile(path, folder / path.name)
    if not bits:
        model.set_dtype(mx.bfloat16)
"""

OURS = """
import json, sys, tempfile
from pathlib import Path
from types import SimpleNamespace
from punie.backend import blas
blas.activate()
from punie.backend import adapter, load, train
from punie.stages.tokens import tokenize
folder, data, iters, batch, limit = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:6])
loaded = load.load(folder, float32=True, threads=1)  # a second one only waits where the machine is shared
lora = SimpleNamespace(max_seq_length=2048, mask_prompt=True, supervise="last_turn")
rows = [r for r in tokenize(data / "train.jsonl", loaded.tokenizer, lora) if len(r.tokens) < limit]
description = adapter.attach(loaded.model, fine_tune_type="lora", num_layers=-1, rank=8, scale=20.0,
                             dropout=0.0, keys=None, seed=0)
recipe = train.Recipe(iters=iters, batch_size=batch, grad_accumulation_steps=1, accumulation="per_token",
                      learning_rate=1e-4, lr_schedule=None, optimizer="adam", optimizer_config={},
                      steps_per_report=10, steps_per_eval=10**6, val_batches=1, save_every=10**6,
                      keep_checkpoints=1, select="last", grad_checkpoint=False, seed=0)
Path(sys.argv[6]).mkdir(exist_ok=True)
out = Path(tempfile.mkdtemp(dir=sys.argv[6]))  # a finished training would not be repeated
t = train.train(loaded.model, rows, rows[:batch], recipe, out=out, description=description,
                identity=str(out), report=lambda _: None)
print(json.dumps({"rate": t.supervised_tokens * t.tokens_per_second / t.tokens, "padding": t.padding_share}))
"""

THEIRS = """
import json, sys, types
from pathlib import Path
use_blas, folder, data = sys.argv[6] == "blas", Path(sys.argv[1]), Path(sys.argv[2])
iters, batch, limit = map(int, sys.argv[3:6])
if use_blas:
    from punie.backend import blas
    blas.activate()
import mlx.core as mx
import mlx.optimizers as optimizers
from mlx_lm.tuner import trainer
from mlx_lm.tuner.datasets import CacheDataset, ChatDataset
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load
class Silent:
    def __init__(self, *a, **k): ...
    def __enter__(self): return self
    def __exit__(self, *a): ...
    def __getattr__(self, name): return lambda *a, **k: None
trainer.TrainUI = Silent
model, tokenizer = load(str(folder))
mx.random.seed(0)
model.freeze()
linear_to_lora_layers(model, len(model.layers), {"rank": 8, "scale": 20.0, "dropout": 0.0})
rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
dataset = ChatDataset(rows, tokenizer, mask_prompt=True)
keep = [row for row in rows if len(dataset.process(row)[0]) < limit]
reports = []
class Callback(trainer.TrainingCallback):
    def on_train_loss_report(self, info): reports.append(info)
arguments = trainer.TrainingArgs(
    batch_size=batch, iters=iters, steps_per_report=1, steps_per_save=10**9, max_seq_length=limit,
    adapter_file=str(Path(sys.argv[7]) / "adapters.safetensors"))
trainer.train(model, optimizers.Adam(learning_rate=1e-4),
              CacheDataset(ChatDataset(keep, tokenizer, mask_prompt=True)), None, arguments,
              training_callback=Callback())
seconds = sum(1 / r["iterations_per_second"] for r in reports)
print(json.dumps({"rate": reports[-1]["trained_tokens"] / seconds}))
"""


def child(code: str, *arguments: object) -> dict[str, float]:
    """Run code in a process of its own; its last line is JSON."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, ours: tuple, theirs: tuple, runs: int, claim: float) -> list[object]:
    """Rates of both, in turn; a row of the table."""
    a, b = [], []
    for _ in range(runs):
        a.append(child(OURS, *ours)["rate"])
        b.append(child(THEIRS, *theirs)["rate"])
    ratio = statistics.median(a) / statistics.median(b)
    pairs = [x / y for x, y in zip(a, b, strict=True)]
    rates = [f"{statistics.median(a):.0f}", f"{statistics.median(b):.1f}"]
    return [name, *rates, f"{ratio:.1f}", f"{min(pairs):.1f} to {max(pairs):.1f}", f">= {claim:g}"]


def prepare(tiny: Path, out: Path, size: str) -> None:
    """Write the models to train: float32 and 4-bit."""
    subprocess.run([sys.executable, "-c", PREPARE, tiny, out, size], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", action="store_true", help="also the model of 200 M parameters")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side (default: %(default)s)")
    arguments = parser.parse_args()
    data, tiny = resource("data/code_mode"), resource("data/models/tiny")
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        subprocess.run(
            [sys.executable, "-c", PREPARE, tiny, work / "tiny", "tiny"], check=True, capture_output=True
        )
        out = work / "out"
        for runs, name, folder, iters, use, claim in (
            (arguments.runs, "tiny, batch 8, float32 and OpenBLAS for both", "float32", 60, "blas", 1.2),
            (1, "tiny, batch 8, 4-bit base: mlx-lm as installed", "4bit", 6, "plain", 25),
        ):
            model = work / "tiny" / folder
            ours = (model, data, max(iters, 20), 8, 2048, out)
            theirs = (model, data, iters, 8, 2048, use, work)
            table.append(compare(name, ours, theirs, runs, claim))
        if arguments.large:
            subprocess.run(
                [sys.executable, "-c", PREPARE, tiny, work / "large", "large"],
                check=True,
                capture_output=True,
            )
            model = work / "large" / "4bit"
            table.append(
                compare("200 M, batch 1, 4-bit base: mlx-lm as installed",
                        (model, data, 4, 1, 80, out), (model, data, 1, 1, 80, "plain", work), 1, 50)
            )  # fmt: skip
    print(f"{platform.processor() or platform.machine()}, supervised tokens/s, medians\n")
    print(tabulate(table, ["model", "punie", "mlx-lm", "ratio", "pairs", "claimed"], tablefmt="github"))


if __name__ == "__main__":
    main()
