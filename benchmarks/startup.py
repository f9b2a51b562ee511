"""How long looking takes: help, config and plan against the time of importing Hydra, and a reused run.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

from tabulate import tabulate

RUNS = 7
CLAIM = 2.5
COMMANDS = {
    "import hydra": ["-c", "import hydra"],
    "--help": ["-m", "punie", "--help"],
    "--cfg job": ["-m", "punie", "--cfg", "job"],
    "plan": ["-m", "punie", "plan"],
    "plan +phase=45": ["-m", "punie", "plan", "+phase=45", "model=tiny"],
}
QUICK = ["lora.iters=4", "lora.save_every=4", "lora.val_batches=1", "eval.max_tokens=8"]


def seconds(command: list[str], folder: str) -> float:
    """Wall-clock time of one process."""
    clock = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=folder)
    return time.perf_counter() - clock


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = ["-m", "punie", *QUICK]
        seconds(run, folder)
        times: dict[str, list[float]] = {name: [] for name in [*COMMANDS, "a run, all reused"]}
        for _ in range(RUNS):
            for name, command in [*COMMANDS.items(), ("a run, all reused", run)]:
                times[name].append(seconds(command, folder))
    medians = {name: statistics.median(values) for name, values in times.items()}
    hydra = medians["import hydra"]
    rows = [[name, f"{median:.2f}", f"{median / hydra:.1f}"] for name, median in medians.items()]
    print(tabulate(rows, ["command", "seconds", "times import hydra"], tablefmt="github"))
    print(f"\nclaimed: --help, --cfg job and plan at most {CLAIM}; medians of {RUNS} runs in turn")


if __name__ == "__main__":
    main()
