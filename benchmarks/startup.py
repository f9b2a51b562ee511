"""How long looking takes: help, config and plan against importing Hydra; a reused run, and a diff of two.

python benchmarks/startup.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figures import Row, punie, report, run

RUNS = 7
COMMANDS = {
    "--help": ("--help",),
    "--cfg job": ("--cfg", "job"),
    "plan": ("plan",),
    "plan +phase=45": ("plan", "+phase=45", "model=tiny"),
}
REUSED = ("lora.iters=4", "lora.save_every=4", "lora.val_batches=1", "eval.max_tokens=8")


def measure() -> Iterator[Row]:
    times: dict[str, list[float]] = {name: [] for name in ["hydra", *COMMANDS, "reused", "diff"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in (0, 1):
            punie(*REUSED, f"eval.seed={seed}", cwd=folder)
        runs = sorted((folder / "outputs/runs/tiny").iterdir())
        for _ in range(RUNS):
            times["hydra"].append(run(sys.executable, "-c", "import hydra").seconds)
            for name, words in {**COMMANDS, "reused": (*REUSED, "eval.seed=0")}.items():
                times[name].append(punie(*words, cwd=folder).seconds)
            times["diff"].append(punie("diff", *runs, code=1).seconds)  # they differ
    for name in COMMANDS:
        peer, command = times["hydra"], 'python -c "import hydra"'
        yield Row(f"`python -m punie {name}`", times[name], "s", peer, command, at_most=2.5)
    yield Row("a run of which everything is reused", times["reused"], "s", at_most=2)
    yield Row("`punie diff` of two runs", times["diff"], "s", at_most=1)


if __name__ == "__main__":
    report(measure())
