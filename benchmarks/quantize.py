"""The one pass beside mlx-lm's two commands, on a generated 4-bit model: memory, disk, time, bytes.

    python benchmarks/quantize.py                   8, 16 and 32 layers, the last beside the two commands
    python benchmarks/quantize.py --layers 2 4 --vocabulary 1024     in seconds, to see that it works

Each way runs in processes of its own; memory is the operating system's peak resident size of a process,
interpreter and libraries included, and of the two commands the larger. The two commands run as installed,
with MLX's own BLAS, and with punie's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import models
from figures import Row, Run, report, run, shown
from tabulate import tabulate

from punie.model.shards import read_header

PEER = Path(__file__).with_name("peer.py")
KEY = "b" * 64
ADAPTER = """
import json, sys
from pathlib import Path
from punie.model import blas; blas.activate()
import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model
folder = Path(sys.argv[1])
mx.random.seed(0)
model, _ = load_model(folder / "base", lazy=True)
model.freeze()
settings = {"rank": 8, "scale": 20.0, "dropout": 0.0}
linear_to_lora_layers(model, 8, settings)
model.update(tree_map(lambda a: mx.random.normal(a.shape, scale=0.003), model.trainable_parameters()))
(folder / "adapter").mkdir()
weights = dict(tree_flatten(model.trainable_parameters()))
mx.save_safetensors(str(folder / "adapter/adapters.safetensors"), weights)
(folder / "adapter/adapter_config.json").write_text(json.dumps(
    {"fine_tune_type": "lora", "num_layers": 8, "lora_parameters": settings, "base_key": sys.argv[2]}))
"""
OURS = """
import json, sys
from pathlib import Path
from punie.model import blas; blas.activate(sys.argv[6] == "openblas")
from punie.model.fuse import fuse
base, adapter, out = map(Path, sys.argv[1:4])
print(json.dumps(fuse(base, adapter, out, base_key=sys.argv[4], bits=int(sys.argv[5]), group_size=64)))
"""


def make(folder: Path, layers: int, vocabulary: int) -> None:
    shape = ("--width", 1024, "--layers", layers, "--head-dim", 128, "--vocabulary", vocabulary)
    models.write(folder / "base", *shape, "--bits", 4)
    run(sys.executable, "-c", ADAPTER, folder, KEY)


def emptied(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def one_pass(folder: Path, bits: int, library: str = "openblas") -> Run:
    """Write the model to the folder ``ours``."""
    out = folder / "ours"
    emptied(out)
    out.mkdir()
    return run(sys.executable, "-c", OURS, folder / "base", folder / "adapter", out, KEY, bits, library)


def two_commands(folder: Path, bits: int, *options: str) -> tuple[list[list[object]], Path, Path]:
    """``fuse --dequantize`` and ``convert -q`` of mlx-lm, with the folders that they write."""
    fused, out = folder / "fused", folder / "theirs"
    peer: list[object] = [sys.executable, PEER, *options]
    first = [*peer, "mlx_lm.fuse", "--model", folder / "base", "--adapter-path", folder / "adapter",
             "--save-path", fused, "--dequantize"]  # fmt: skip
    second = [*peer, "mlx_lm.convert", "--hf-path", fused, "--mlx-path", out, "-q", "--q-bits", bits,
              "--q-group-size", 64]  # fmt: skip
    return [first, second], fused, out


def size(folder: Path) -> float:
    """MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def same_tensors(one: Path, other: Path) -> str:
    """How many tensors of two folders have the same bytes; found in another process.

    What this one has held at its peak is the peak of every process that it starts later (Linux, vfork).
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_same_tensors, one, other).result()


def _same_tensors(one: Path, other: Path) -> str:
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


def compare(folder: Path, bits: int, rounds: int, what: str, *options: str) -> Iterator[Row]:
    """Memory, disk and time of the two ways, in turn."""
    commands, *written = two_commands(folder, bits, *options)
    passes, pairs = [], []
    for _ in range(rounds):
        passes.append(one_pass(folder, bits))
        emptied(*written)
        pairs.append([run(*command) for command in commands])
    command = "\n".join(shown(each, folder) for each in commands)
    figures = {
        "peak resident memory": ([r.memory for r in passes], [max(a.memory, b.memory) for a, b in pairs]),
        "bytes written": ([size(folder / "ours")], [sum(map(size, written))]),
        "wall time": ([r.seconds for r in passes], [a.seconds + b.seconds for a, b in pairs]),
    }
    for (name, (ours, theirs)), aim in zip(figures.items(), (0.4, 0.35, 0.6), strict=True):
        unit = "s" if name == "wall time" else "MB"
        yield Row(f"{what}: {name}", ours, unit, theirs, command, at_most=aim)


def measure(layers: list[int], vocabulary: int, bits: int, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        budgets: list[dict[str, Any]] = []
        rows = []
        for count in layers:
            folder = Path(scratch) / str(count)
            make(folder, count, vocabulary)
            done = one_pass(folder, bits)
            info = json.loads(done.out.splitlines()[-1])
            budgets.append(info["budget"])
            megabytes = (info["budget"][kind]["memory_mb"] for kind in ("measured", "predicted"))
            parameters = f"{info['parameters'] / 1e6:.0f} M"
            rows.append([count, parameters, done.memory, *megabytes, done.seconds])
            if count != layers[-1]:
                shutil.rmtree(folder)
        print("one pass, by number of layers")
        headers = ["layers", "parameters", "resident MB", "arrays MB", "predicted MB", "seconds"]
        print(tabulate(rows, headers, floatfmt=("", "", ".0f", ".0f", ".0f", ".1f")), flush=True)
        few, many = ([budgets[at]["measured"]["memory_mb"]] for at in (0, -1))
        what = f"arrays of the pass at once, {layers[-1]} layers against {layers[0]}"
        yield Row(what, many, "MB", few, f"the same pass, {layers[0]} layers", at_most=1.05)
        yield from compare(folder, bits, rounds, f"{parameters}, mlx-lm as installed")
        print(f"\nas installed: {same_tensors(folder / 'ours', folder / 'theirs')}")
        one_pass(folder, bits, "mlx's own")
        print(f"both with MLX's own BLAS: {same_tensors(folder / 'ours', folder / 'theirs')}", flush=True)
        yield from compare(folder, bits, rounds, f"{parameters}, OpenBLAS for both", "--openblas")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--bits", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison, the two ways in turn")
    arguments = parser.parse_args()
    report(measure(arguments.layers, arguments.vocabulary, arguments.bits, arguments.rounds))
