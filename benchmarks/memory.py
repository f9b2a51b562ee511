"""The preflight's estimates of memory and disk against what a run really takes, for three sizes of model.

python benchmarks/memory.py

Every stage runs in a process of its own, and its largest resident size is what counts. Trained on the 8
longest rows of data/code_mode, so that each batch is as long as the longest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

from punie import pipeline
from punie.backend.device import device_kind
from punie.config import resolve
from punie.config.compose import compose
from punie.paths import resource
from punie.stages import memory
from punie.store.artifacts import Store

ROWS = 8
WIDTHS = {"tiny": None, "dense 512": (512, 8), "dense 1024": (1024, 16)}
"""Width and layers of a generated model; None is the embedded one."""
GENERATE = """
import json, shutil, sys
from pathlib import Path
import mlx.core as mx
from mlx_lm.models import qwen3
from mlx_lm.utils import quantize_model, save_config, save_model
tiny, out, width, layers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
config = json.loads((tiny / "config.json").read_text())
sparse = ("decoder_sparse_step", "mlp_only_layers")
config = {k: v for k, v in config.items() if "expert" not in k and k not in sparse}
config |= {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": width,
           "num_hidden_layers": layers, "intermediate_size": 3 * width, "head_dim": 64,
           "num_attention_heads": width // 64, "num_key_value_heads": width // 128, "vocab_size": 32_000}
mx.random.seed(0)
model = qwen3.Model(qwen3.ModelArgs.from_dict(config))
model.set_dtype(mx.bfloat16)
model, config = quantize_model(model, config, 64, 4)
out.mkdir()
save_model(out, model)
save_config(config, out / "config.json")
for path in tiny.iterdir():
    if path.name.startswith(("tokenizer", "chat_template", "generation_config")):
        shutil.copyfile(path, out / path.name)
"""


def longest_rows(folder: Path) -> None:
    """A data set of the longest conversations, the same in both splits."""
    rows = sorted((resource("data/code_mode") / "train.jsonl").read_text("utf-8").splitlines(), key=len)
    folder.mkdir()
    for split in ("train", "valid"):
        (folder / f"{split}.jsonl").write_text("\n".join(rows[-ROWS:]) + "\n", "utf-8")


def measure(work: Path, name: str, shape: tuple[int, int] | None, batch: int) -> list[list[Any]]:
    """Estimate and measurement of one model's training, evaluation and disk."""
    tiny = resource("data/models/tiny")
    folder = tiny
    if shape is not None:
        folder = work / f"{name.replace(chr(32), chr(45))}-model"
        if not folder.exists():
            arguments = [sys.executable, "-c", GENERATE, str(tiny), str(folder), *map(str, shape)]
            subprocess.run(arguments, check=True, capture_output=True)
    overrides = [
        "model=local", f"model.path={folder}", "data=jsonl", f"data.path={work / 'data'}",
        "data.min_examples=1", "lora.iters=4", "lora.save_every=4", "lora.steps_per_report=1",
        f"lora.batch_size={batch}", "lora.num_layers=4", "lora.val_batches=1", "quantize.min_gain_kept=0",
        "eval.max_tokens=64", "eval.temperature=0.0", "eval.lock.temperatures=[]", "runtime.threads=1",
    ]  # fmt: skip
    cwd = work / f"{name}-{batch}"
    cwd.mkdir()
    command = [sys.executable, "-m", "punie", *overrides, "runtime.isolation=process"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise SystemExit(done.stderr)
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
    label = f"{name}, {sizes.parameters / 1e6:.0f} M, batch {batch}"
    return [
        [label, what, f"{estimate / 1e6:.0f}", f"{measured / 1e6:.0f}", f"{estimate / measured:.2f}"]
        for what, (estimate, measured) in pairs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="lora.batch_size")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="punie-memory-") as scratch:
        work = Path(scratch)
        longest_rows(work / "data")
        for name, shape in WIDTHS.items():
            for batch in arguments.batches:
                rows += measure(work, name, shape, batch)
                print(rows[-3], file=sys.stderr)
    headers = ["model", "what", "estimate, MB", "measured, MB", "ratio (aim: 0.75 to 1.25)"]
    print(tabulate(rows, headers, "github", disable_numparse=True))


if __name__ == "__main__":
    main()
