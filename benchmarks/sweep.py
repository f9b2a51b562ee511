"""Sweeps: what is shared, what a loop over the published commands takes, and what a kill costs.

    python benchmarks/sweep.py                        everything: 5 seeds, 4 temperatures (two hours)
    python benchmarks/sweep.py --seeds 2 --temperatures 2 --iters 20 --loop 1 --kills 1 --plan 100

The loop is what the published shell scripts do for each job: ``mlx_lm lora``, ``fuse``, ``convert``, then
a server asked for one answer after the other. It gets the same BLAS, one thread, and float32 weights.
``--loop N`` runs N of its jobs and multiplies; the row says so. The kills are of a smaller sweep: 3 seeds,
2 temperatures, 60 iterations.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import models
from figures import Row, punie, report, run, shown
from tabulate import tabulate

from punie.evals.serve import serve
from punie.formats.code_mode import system_prompt
from punie.util.paths import resource

WAIT = 0.3
"""Seconds that looking up an artifact never takes: a longer look was a wait for another job's lock."""
PEER = (sys.executable, Path(__file__).with_name("peer.py"), "--openblas")


class Folder:
    """A working folder with a store of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin a command in a process group of its own."""
        null, command = subprocess.DEVNULL, [sys.executable, "-m", "punie", *arguments]
        return subprocess.Popen(command, cwd=self.path, start_new_session=True, stdout=null, stderr=null)

    def run(self, *arguments: str) -> float:
        """Seconds that a command took."""
        return punie(*arguments, cwd=self.path).seconds

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


def published(scratch: Path, base: Path, seed: int, iters: int) -> tuple[list[list[object]], Path]:
    """What the published scripts call before they evaluate, and the model that comes of it."""
    adapter, fused, model = (scratch / name for name in ("adapter", "fused", "model"))
    lora = [
        *PEER, "mlx_lm.lora", "--train", "--model", base, "--data", resource("data/code_mode"),
        "--seed", seed, "--iters", iters, "--num-layers", 4, "--batch-size", 4, "--learning-rate", 3e-4,
        "--mask-prompt", "--steps-per-eval", 50, "--val-batches", 10, "--save-every", iters,
        "--adapter-path", adapter,
    ]  # fmt: skip
    fuse = [*PEER, "mlx_lm.fuse", "--model", base, "--adapter-path", adapter, "--save-path", fused]
    convert = [*PEER, "mlx_lm.convert", "--hf-path", fused, "--mlx-path", model, "-q", "--q-bits", 5,
               "--q-group-size", 64]  # fmt: skip
    return [lora, fuse, convert], model


def shell_loop(scratch: Path, jobs: list[tuple[int, float]], iters: int) -> tuple[list[float], str]:
    """Seconds of each job of the loop, and its commands."""
    base = models.write(scratch / "float32", "--float32")
    prompts = [json.loads(line) for line in resource("data/suites/core27.jsonl").read_text().splitlines()]
    found, commands = [], []
    for number, (seed, temperature) in enumerate(jobs):
        folder = scratch / f"loop{number}"
        folder.mkdir()
        commands, model = published(folder, base, seed, iters)
        clock = time.perf_counter()
        for command in commands:
            run(*command)
        with serve(model, log=folder / "server.log", float32=True, threads=1) as server:
            ask(server.url, prompts, temperature)
        found.append(time.perf_counter() - clock)
        shutil.rmtree(folder)
    served = [
        sys.executable,
        "-m",
        "punie.model.server_main",
        "--float32",
        "--threads",
        1,
        "--model",
        model,
    ]
    return found, "\n".join(shown(each, folder, scratch) for each in [*commands, served])


def ask(url: str, prompts: list[dict[str, Any]], temperature: float) -> None:
    """Put every prompt to a server, one after the other."""
    for item in prompts:
        system = {"role": "system", "content": system_prompt()}
        body = {
            "messages": [system, {"role": "user", "content": item["prompt"]}],
            "temperature": temperature,
            "max_tokens": item.get("max_tokens") or 256,
        }
        httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=300).raise_for_status()


def killed(scratch: Path, times: int) -> Iterator[Row]:
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
        rows.append([moment, len(before), again, folder.summary()["digest"] == digest])
        shutil.rmtree(folder.path)
    print(
        tabulate(rows, ["killed after, s", "trainings finished", "trained twice", "same summary"], "github")
    )
    what = "`kill -9` of a sweep, then `resume`"
    yield Row(f"{what}: the same summary", [sum(row[3] for row in rows)], f"of {times}", at_least=times)
    yield Row(f"{what}: finished trainings trained again", [sum(row[2] for row in rows)], at_most=0)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    seeds = [0, 1, 2, 3, 42][: arguments.seeds] + list(range(100, 95 + arguments.seeds))
    temperatures = [0.0, 0.2, 0.5, 0.7][: arguments.temperatures]
    jobs = [(seed, temperature) for seed in seeds for temperature in temperatures]
    command = [
        "-m", f"seed={','.join(map(str, seeds))}", f"eval.temperature={','.join(map(str, temperatures))}",
        f"lora.iters={arguments.iters}", f"lora.save_every={arguments.iters}", "runtime.threads=1",
    ]  # fmt: skip
    asked = f"{len(seeds)} seeds × {len(temperatures)} temperatures, {arguments.iters} iterations"
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        scratch = Path(name)
        one = Folder(scratch / "one")
        seconds = one.run(*command)
        counts = [len(one.stored(stage)) for stage in ("train", "quantize", "evaluate")]
        print(f"{asked}: {counts} trainings, quantizations, evaluations", flush=True)
        needed = 2 * len(seeds) + len(jobs)
        what = f"trainings, quantizations and evaluations of {asked}"
        yield Row(what, [sum(counts)], at_least=needed, at_most=needed)
        # the preflight's seconds hold those of the tokens that it has made
        own = [each["seconds"] for each in one.stored().values() if each["stage"] != "tokens"]
        what, peer = "wall time of the sweep over its stages' own", "the stages' own times, added"
        yield Row(what, [seconds], "s", [sum(own)], peer, at_most=1.1)
        again = one.run(*command)
        startup = one.run("-m", "seed=0", "eval.temperature=0.0", *command[3:])
        each = (again - startup) / max(1, len(jobs) - 1)
        yield Row("beyond its stages, for each job", [each], "s", at_most=0.2)

        two = Folder(scratch / "two")
        both = two.run(*command, "hydra/launcher=workers", "hydra.launcher.n_jobs=2")
        peer = "the same with one worker"
        yield Row("two workers, one thread each, against one", [both], "s", [seconds], peer, at_least=1.5)
        waits = sum(stage["reused"] and stage["seconds"] > WAIT for stage in two.stages())
        yield Row("waits of the two for each other's lock", [waits], at_most=0)

        grid = (f"seed=range({arguments.plan // 4})", "eval.temperature=0.0,0.2,0.5,0.7")
        taken = Folder(scratch / "plan").run("plan", "-m", *grid)
        yield Row(f"`punie plan -m`, {arguments.plan // 4 * 4:,} jobs", [taken], "s", at_most=60)

        if count := len(jobs) if arguments.loop is None else min(arguments.loop, len(jobs)):
            loop, peer = shell_loop(scratch, jobs[:count], arguments.iters)
            what = f"the sweep of {len(jobs)} jobs against the published commands in a loop"
            if count < len(jobs):
                what += f" ({count} of its jobs run, each counted {len(jobs) / count:g} times)"
            whole = [sum(loop)] if count == len(jobs) else [each * len(jobs) for each in loop]
            yield Row(what, [seconds], "s", whole, peer, at_least=5)
        if arguments.kills:
            yield from killed(scratch, arguments.kills)


if __name__ == "__main__":
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
    report(measure(parser.parse_args()))
