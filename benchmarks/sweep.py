"""Sweeps: what is shared, what a loop over the published commands takes, and what a kill costs.

    python benchmarks/sweep.py                        everything: 5 seeds, 4 temperatures (two hours)
    python benchmarks/sweep.py --seeds 2 --temperatures 2 --iters 20 --loop 1 --kills 1 --plan 100

The loop is what the published shell scripts do for each job: ``mlx_lm lora``, ``fuse``, ``convert``, then
a server asked for one answer after the other. It gets the same BLAS, one thread, and a float32 base.
``--loop N`` runs N of its jobs and multiplies; the ratio says so. The kills are of a smaller sweep: 3 seeds,
2 temperatures, 60 iterations.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tabulate import tabulate

from punie.paths import resource
from punie.tools import registry

WAIT = 0.3
"""Seconds that looking up an artifact never takes: a longer look was a wait for another job's lock."""
THEIRS = """
import runpy, sys
from punie.backend import blas
blas.activate()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
FLOAT32 = """
import json, shutil, sys
from pathlib import Path
from punie.backend import blas
blas.activate()
import mlx.core as mx
from mlx_lm.utils import load_model, save_config, save_model
source, out = map(Path, sys.argv[1:])
shutil.copytree(source, out)
model, config = load_model(source)
model.set_dtype(mx.float32)
save_model(out, model)
save_config(config | {"torch_dtype": "float32"}, out / "config.json")
"""


class Folder:
    """A working folder with a store of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin a command in a process group of its own."""
        return quietly([sys.executable, "-m", "punie", *arguments], cwd=self.path)

    def run(self, *arguments: str) -> float:
        """Seconds that a command took."""
        clock = time.perf_counter()
        if code := self.start(*arguments).wait():
            raise SystemExit(f"punie {' '.join(arguments)} ended with {code} in {self.path}")
        return time.perf_counter() - clock

    @property
    def sweep(self) -> Path:
        """Folder of the newest sweep."""
        return max((self.path / "outputs/sweeps").glob("*/*"), key=lambda path: path.stat().st_mtime)

    def summary(self) -> dict[str, Any]:
        """What it ended with."""
        return json.loads((self.sweep / "sweep.json").read_text())

    def stages(self) -> list[dict[str, Any]]:
        """Every stage that a job of the newest sweep came to."""
        records = [json.loads(path.read_text()) for path in self.sweep.glob("jobs/*/status.json")]
        return [stage for record in records for stage in record["stages"]]

    def stored(self, stage: str = "*") -> dict[str, dict[str, Any]]:
        """The manifests in the store, by key."""
        found = (self.path / "outputs/store").glob(f"{stage}/*/manifest.json")
        manifests = [json.loads(path.read_text()) for path in found if path.parts[-3][0] != "."]
        return {manifest["key"]: manifest for manifest in manifests}


def quietly(command: list[str], cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a process that prints nothing, in a group of its own."""
    null = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=cwd, start_new_session=True, stdout=null, stderr=null)


def shell_loop(scratch: Path, jobs: list[tuple[int, float]], iters: int) -> float:
    """Seconds of the published commands for these jobs, one after the other."""
    base = scratch / "float32"
    subprocess.run([sys.executable, "-c", FLOAT32, str(resource("data/models/tiny")), str(base)], check=True)
    prompts = [json.loads(line) for line in resource("data/suites/core27.jsonl").read_text().splitlines()]
    clock = time.perf_counter()
    for number, (seed, temperature) in enumerate(jobs):
        adapter, fused, model = (scratch / f"{number}-{name}" for name in ("adapter", "fused", "model"))
        theirs(
            "mlx_lm.lora", "--train", "--model", base, "--data", resource("data/code_mode"), "--seed", seed,
            "--iters", iters, "--num-layers", 4, "--batch-size", 4, "--learning-rate", 3e-4, "--mask-prompt",
            "--steps-per-eval", 50, "--val-batches", 10, "--save-every", iters, "--adapter-path", adapter,
        )  # fmt: skip
        theirs("mlx_lm.fuse", "--model", base, "--adapter-path", adapter, "--save-path", fused)
        theirs(
            "mlx_lm.convert",
            "--hf-path",
            fused,
            "--mlx-path",
            model,
            "-q",
            "--q-bits",
            5,
            "--q-group-size",
            64,
        )
        ask(model, prompts, temperature)
        for folder in (adapter, fused, model):
            shutil.rmtree(folder)
    return time.perf_counter() - clock


def theirs(module: str, *arguments: object) -> None:
    """One of mlx-lm's own commands, on punie's BLAS."""
    command = [sys.executable, "-c", THEIRS, module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{module} failed:\n{done.stderr}")


def ask(model: Path, prompts: list[dict[str, Any]], temperature: float) -> None:
    """Start a server, put every prompt to it, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-c", THEIRS, "mlx_lm.server", "--model", str(model), "--port", port]
    with quietly(command) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/v1/models", server)
            for item in prompts:
                system = {"role": "system", "content": registry.system_prompt()}
                body = {
                    "messages": [system, {"role": "user", "content": item["prompt"]}],
                    "temperature": temperature,
                    "max_tokens": item.get("max_tokens") or 256,
                }
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/v1/chat/completions",
                    json.dumps(body).encode(),
                    {"Content-Type": "application/json"},
                )
                with urllib.request.urlopen(request, timeout=300) as answer:
                    json.load(answer)
        finally:
            server.terminate()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the server ended with {server.returncode}")


def killed(scratch: Path, times: int) -> list[list[str]]:
    """Kill the whole process group at random moments, each time from an empty store, then resume."""
    command = ["-m", "seed=0,1,2", "eval.temperature=0.0,0.7", "lora.iters=60", "lora.save_every=20"]
    undisturbed = Folder(scratch / "undisturbed")
    seconds = undisturbed.run(*command)
    digest = undisturbed.summary()["digest"]
    dice, rows = random.Random(0), []
    for number in range(times):
        folder = Folder(scratch / f"killed{number}")
        process = folder.start(*command)
        while not list(folder.path.glob("outputs/sweeps/*/*/plan.json")):
            time.sleep(0.05)
        moment = dice.uniform(0, 0.9 * seconds)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        before = folder.stored("train")
        folder.run("resume", str(folder.sweep))
        after = folder.stored("train")
        again = sum(manifest["created"] != after[key]["created"] for key, manifest in before.items())
        same = "same" if folder.summary()["digest"] == digest else "ANOTHER"
        rows.append([f"{moment:.1f} s", str(len(before)), str(again), same])
        shutil.rmtree(folder.path)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--temperatures", type=int, default=4, choices=(1, 2, 3, 4))
    parser.add_argument("--iters", type=int, default=400)
    parser.add_argument("--loop", type=int, help="jobs of the shell loop to run (default: all; 0: none)")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--plan", type=int, default=1000, help="jobs of the large plan")
    parser.add_argument("--dir", type=Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as scratch:
        measure(Path(scratch), arguments)


def measure(scratch: Path, arguments: argparse.Namespace) -> None:
    """Run everything, and print each figure as it is known."""
    seeds = [0, 1, 2, 3, 42][: arguments.seeds] + list(range(100, 95 + arguments.seeds))
    temperatures = [0.0, 0.2, 0.5, 0.7][: arguments.temperatures]
    jobs = [(seed, temperature) for seed in seeds for temperature in temperatures]
    command = [
        "-m", f"seed={','.join(map(str, seeds))}", f"eval.temperature={','.join(map(str, temperatures))}",
        f"lora.iters={arguments.iters}", f"lora.save_every={arguments.iters}",
    ]  # fmt: skip
    rows: list[list[str]] = []

    def tell(what: str, figure: str, aim: str) -> None:
        rows.append([what, figure, aim])
        print(f"{what}: {figure}", flush=True)

    one = Folder(scratch / "one")
    seconds = one.run(*command)
    counts = [len(one.stored(stage)) for stage in ("train", "quantize", "evaluate")]
    expected = [len(seeds), len(seeds), len(jobs)]
    tell("trainings, quantizations, evaluations", " ".join(map(str, counts)), " ".join(map(str, expected)))
    own = sum(manifest["seconds"] for manifest in one.stored().values())
    tell("wall time over the stages' own", f"{seconds:.1f} s / {own:.1f} s = {seconds / own:.2f}", "1.10")
    again = one.run(*command)
    startup = one.run("-m", "seed=0", "eval.temperature=0.0", *command[3:])
    each = (again - startup) / max(1, len(jobs) - 1)
    tell("beyond its stages, for each job", f"{each:.3f} s", "0.2 s")

    two = Folder(scratch / "two")
    workers = ("hydra/launcher=workers", "hydra.launcher.n_jobs=2", "runtime.threads=1")
    single = Folder(scratch / "single")
    alone = single.run(*command, "runtime.threads=1")
    both = two.run(*command, *workers)
    tell("two workers over one", f"{alone:.1f} s / {both:.1f} s = {alone / both:.2f}", "1.50")
    waits = sum(stage["reused"] and stage["seconds"] > WAIT for stage in two.stages())
    tell("waits for another job's lock", str(waits), "0")

    clock = time.perf_counter()
    Folder(scratch / "plan").run("plan", "-m", f"seed=range({(arguments.plan + 3) // 4})",
                                 "eval.temperature=0.0,0.2,0.5,0.7")  # fmt: skip
    tell(f"planning {arguments.plan} jobs", f"{time.perf_counter() - clock:.1f} s", "60 s")

    count = len(jobs) if arguments.loop is None else min(arguments.loop, len(jobs))
    if count:
        loop = shell_loop(scratch, jobs[:count], arguments.iters) * len(jobs) / count
        said = "" if count == len(jobs) else f" ({count} of {len(jobs)} jobs run)"
        tell(
            "the shell loop over the sweep",
            f"{loop:.0f} s / {seconds:.0f} s = {loop / seconds:.1f}{said}",
            "5",
        )

    print("\n" + tabulate(rows, ["", "found", "aim"], disable_numparse=True))
    if arguments.kills:
        found = killed(scratch, arguments.kills)
        headers = ["killed after", "trainings finished", "trained twice", "summary"]
        print("\n" + tabulate(found, headers, disable_numparse=True))


if __name__ == "__main__":
    main()
