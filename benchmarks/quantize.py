"""The one pass beside mlx-lm's two commands, on a generated 4-bit model: memory, disk, time, bytes.

python benchmarks/quantize.py                   8, 16 and 32 layers, the last beside the two commands
python benchmarks/quantize.py --layers 4 --vocabulary 1024     in seconds, to see that it works

Each way runs in processes of its own; memory is the operating system's peak resident size of a process,
interpreter and libraries included, and of the two commands the larger.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from punie.backend.shards import read_header

KEY = "b" * 64
MAKE = """
import json, sys
from pathlib import Path
from punie.backend import blas; blas.activate()
import mlx.core as mx, mlx.nn as nn
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import qwen3
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import quantize_model, save_config, save_model
folder, config = Path(sys.argv[1]), json.loads(sys.argv[2])
mx.random.seed(0)
model = qwen3.Model(qwen3.ModelArgs.from_dict(config))
draw = lambda a: mx.random.normal(a.shape, scale=0.02).astype(mx.bfloat16)
model.update(tree_map(draw, model.parameters()))
model, config = quantize_model(model, config, 64, 4)
save_model(folder / "base", model)
save_config(config, folder / "base" / "config.json")
model.freeze()
adapter = {"rank": 8, "scale": 20.0, "dropout": 0.0}
linear_to_lora_layers(model, 8, adapter)
model.update(tree_map(lambda a: mx.random.normal(a.shape, scale=0.003), model.trainable_parameters()))
(folder / "adapter").mkdir()
weights = dict(tree_flatten(model.trainable_parameters()))
mx.save_safetensors(str(folder / "adapter/adapters.safetensors"), weights)
(folder / "adapter/adapter_config.json").write_text(json.dumps(
    {"fine_tune_type": "lora", "num_layers": 8, "lora_parameters": adapter, "base_key": sys.argv[3]}))
"""
OURS = """
import json, sys
from pathlib import Path
from punie.backend import blas; blas.activate(sys.argv[6] == "openblas")
from punie.backend.fuse import fuse
base, adapter, out = map(Path, sys.argv[1:4])
print(json.dumps(fuse(base, adapter, out, base_key=sys.argv[4], bits=int(sys.argv[5]), group_size=64)))
"""


@dataclass
class Run:
    """What one process took."""

    seconds: float
    memory: float
    """Peak resident size; MB."""
    output: str


def run(*command: str) -> Run:
    """Run a process to its end.

    Raises:
        RuntimeError: It failed.
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    clock = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - clock
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read().decode()
    if process.returncode:
        raise RuntimeError(f"{command[:4]} failed:\n{output}")
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Run(seconds, usage.ru_maxrss / unit, output)


def make(folder: Path, layers: int, vocabulary: int) -> None:
    config = {
        "model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": layers, "intermediate_size": 3072,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": vocabulary,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "torch_dtype": "bfloat16",
        "max_position_embeddings": 2048, "eos_token_id": 2,
    }  # fmt: skip
    folder.mkdir()
    run(sys.executable, "-c", MAKE, str(folder), json.dumps(config), KEY)
    tiny = Path(__file__).resolve().parents[1] / "data/models/tiny"
    for path in tiny.glob("*token*"):
        shutil.copyfile(path, folder / "base" / path.name)


def one_pass(folder: Path, bits: int, library: str = "openblas") -> tuple[Run, int]:
    """The run, and the bytes it left on the disk."""
    out = folder / "ours"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    folders = (str(folder / name) for name in ("base", "adapter", "ours"))
    done = run(sys.executable, "-c", OURS, *folders, KEY, str(bits), library)
    return done, size(out)


def two_commands(folder: Path, bits: int) -> tuple[Run, Run, int]:
    """``mlx_lm fuse --dequantize`` and ``mlx_lm convert -q``, and the bytes both left on the disk."""
    base, adapter, fused, out = (str(folder / name) for name in ("base", "adapter", "fused", "theirs"))
    shutil.rmtree(fused, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    mlx_lm = (sys.executable, "-m", "mlx_lm")
    first = run(
        *mlx_lm, "fuse", "--model", base, "--adapter-path", adapter, "--save-path", fused, "--dequantize"
    )
    second = run(
        *mlx_lm, "convert", "--hf-path", fused, "--mlx-path", out, "-q", "--q-bits", str(bits),
        "--q-group-size", "64",
    )  # fmt: skip
    return first, second, size(Path(fused)) + size(Path(out))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def same_tensors(one: Path, other: Path) -> str:
    """How many tensors of two folders have the same bytes."""
    equal, total, differing, words = 0, 0, 0, 0
    mine, theirs = contents(one), contents(other)
    for name in mine | theirs:
        total += 1
        a, b = mine.get(name, b""), theirs.get(name, b"")
        equal += a == b
        if a != b and len(a) == len(b):
            differing += sum(x != y for x, y in zip(a, b, strict=True))
        words += len(b)
    return f"{equal} of {total} tensors are bit-equal; {differing} of {words} bytes differ"


def contents(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.glob("model*.safetensors")):
        header, data = read_header(path), path.read_bytes()
        for name, entry in header.tensors.items():
            start, end = (header.start + edge for edge in entry["data_offsets"])
            found[name] = data[start:end]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--bits", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison, the two ways in turn")
    parser.add_argument("--dir", type=Path, help="where to put the models (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as scratch:
        rows = []
        for layers in arguments.layers:
            folder = Path(scratch) / str(layers)
            make(folder, layers, arguments.vocabulary)
            done, _ = one_pass(folder, arguments.bits)
            info = json.loads(done.output.splitlines()[-1])
            budget = info["budget"]
            rows.append(
                [
                    layers, f"{info['parameters'] / 1e6:.0f} M", f"{done.memory:.0f}",
                    f"{budget['measured']['memory_mb']:.0f}", f"{budget['predicted']['memory_mb']:.0f}",
                    f"{done.seconds:.1f}",
                ]
            )  # fmt: skip
            if layers != arguments.layers[-1]:
                shutil.rmtree(folder)
        print("one pass, by number of layers")
        print(
            tabulate(
                rows,
                ["layers", "parameters", "resident MB", "arrays MB", "predicted MB", "seconds"],
                disable_numparse=True,
            )
        )
        ours, theirs = [], []
        for _ in range(arguments.rounds):
            ours.append(one_pass(folder, arguments.bits))
            theirs.append(two_commands(folder, arguments.bits))
        print(f"\n{arguments.layers[-1]} layers, medians of {arguments.rounds} rounds in turn")
        print(comparison(ours, theirs))
        print("\n" + same_tensors(folder / "ours", folder / "theirs"))
        one_pass(folder, arguments.bits, "mlx's own")
        print("with the BLAS that the two commands have, mlx's own: ", end="")
        print(same_tensors(folder / "ours", folder / "theirs"))


def comparison(ours: list[tuple[Run, int]], theirs: list[tuple[Run, Run, int]]) -> str:
    middle = statistics.median
    figures = [
        ("peak resident memory, MB", middle(r.memory for r, _ in ours),
         middle(max(a.memory, b.memory) for a, b, _ in theirs), 0.4),
        ("bytes written, MB", ours[0][1] / 1e6, theirs[0][2] / 1e6, 0.35),
        ("wall time, s", middle(r.seconds for r, _ in ours),
         middle(a.seconds + b.seconds for a, b, _ in theirs), 0.6),
    ]  # fmt: skip
    return tabulate(
        [[name, f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}", f"{limit:.2f}"] for name, a, b, limit in figures],
        ["", "one pass", "fuse, convert", "ratio", "at most"],
        disable_numparse=True,
    )


if __name__ == "__main__":
    main()
