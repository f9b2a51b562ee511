"""Run the benchmarks, keep what they found in results.json, and write docs/benchmarks.md from it.

    make bench                            the short form: twenty-five minutes on two cores with nothing else
    make bench ARGS=--full                the long one: hours
    make bench ARGS="train quantize"      these again; what is known of the others and of the long form stays
    make bench ARGS=--page                the page again from what is known

Each benchmark is a script that also runs alone. One that fails or takes too long is shown as failed, the
others go on, and the exit code is 1. What they print is in outputs/benchmarks/.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import page
import psutil
from figures import HANDED_TO, ROOT, shown

from punie.model import blas
from punie.run.capture import capture, now
from punie.util.files import write_json, write_text

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
LOGS = ROOT / "outputs" / "benchmarks"


@dataclass(frozen=True)
class Benchmark:
    """A script of this folder, and the arguments of its two forms."""

    title: str
    short: str | None = ""
    """None: not part of the short form."""
    full: str = ""

    def form(self, full: bool) -> tuple[str, str]:
        """What to keep the figures under, and the arguments; forms that do not differ are one."""
        if (full or self.short is None) and self.full != self.short:
            return "full", self.full
        return "short", self.short or ""


BENCHMARKS = {
    "startup": Benchmark("Start-up"),
    "train": Benchmark("Training", full="--large"),
    "smollm2": Benchmark("Training SmolLM2", None),
    "cpu": Benchmark("The CPU path"),
    "quantize": Benchmark("Fuse and quantize"),
    "evaluate": Benchmark("Evaluation", "--quick"),
    "sweep": Benchmark("Sweeps", "--seeds 2 --temperatures 4 --iters 100 --loop 2 --kills 0"),
    "power": Benchmark("Verdicts"),
    "summarize": Benchmark("Reading results", "--runs 1000"),
    "check": Benchmark("Checking data"),
    "memory": Benchmark("Estimates", "--models tiny 'dense 512'"),
    "load": Benchmark("Full stores", "--largest 100"),
    "tiny": Benchmark("The embedded models", None),
}
"""By the name of the script, in the order of the page."""


def surroundings() -> dict[str, Any]:
    """The machine with its versions, and the commit, as a run records them."""
    found = capture(argv=[], overrides=[], config_digest="")
    library = blas.activate()
    packages = {name: found.packages[name] for name in ("mlx", "mlx-lm", "numpy", "hydra-core")}
    used = f"{library.name} ({library.source})"
    machine = {**dict(found.machine or ()), "python": found.python, **packages, "blas": used}
    git = found.git
    changes = " with changes" if git and git.dirty else ""
    return {"machine": machine, "commit": f"{(git and git.commit) or 'unknown'}"[:12] + changes}


def busy() -> float:
    """CPU seconds that the whole machine has been busy since it started."""
    times = psutil.cpu_times()._asdict()
    idle = {"idle", "iowait", "guest", "guest_nice"}  # guests are counted in user
    return sum(seconds for name, seconds in times.items() if name not in idle)


def own() -> float:
    """CPU seconds of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(script: Path, options: list[str], around: dict[str, Any], limit: float) -> dict[str, Any]:
    """Run one script to its end.

    Args:
        script: What to run.
        options: Its arguments.
        around: What ``surroundings`` found.
        limit: Seconds that it may take.

    Returns:
        What is known of it, as results.json holds it; ``error`` is None where it ended well.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{script.stem}.log"
    record: dict[str, Any] = {
        "command": shown(["python", script, *map(shlex.quote, options)]),
        "measured": now(),
        "load": round(os.getloadavg()[0], 2),
        **around,
    }
    before, clock = busy() - own(), time.perf_counter()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        log.open("w+", encoding="utf-8") as output,
    ):
        rows = Path(scratch) / "rows.jsonl"
        environment = os.environ | {HANDED_TO: str(rows), "TMPDIR": scratch, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, str(script), *options]
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        error = None
        try:
            if code := process.wait(limit):
                output.seek(0)
                said = [line.strip() for line in output if line.strip()]
                error = f"ended with {code}: {said[-1][:200] if said else 'it said nothing'}"
        except subprocess.TimeoutExpired:
            error = f"not done after {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):  # all of it is gone, as it should be
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.perf_counter() - clock
        found = rows.read_text("utf-8").splitlines() if rows.exists() else []
    return {
        **record,
        "seconds": round(seconds, 1),
        "others": round(max(0.0, busy() - own() - before) / seconds, 2),
        "error": error.replace(scratch, "TMP") if error else None,
        "rows": [json.loads(line) for line in found],
    }


def kept(old: Mapping[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """What to remember: the new, or where it failed the old with the failure of the new."""
    if new["error"] is None or old is None or (old["error"] and not old["rows"]):
        return new
    return {**old, "error": f"{new['error']} ({new['measured']}, `{new['command']}`)"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--full", action="store_true", help="the long form")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    parser.add_argument(
        "--limit", type=float, help="seconds for each (default: 900, or 14,400 in the long form)"
    )
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.names) - BENCHMARKS.keys()):
        parser.error(f"no benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    failed = []
    around = {} if asked.page else surroundings()  # before results.json changes: it is part of the checkout
    for name, benchmark in BENCHMARKS.items():
        form, options = benchmark.form(asked.full)
        wanted = name in asked.names if asked.names else asked.full or benchmark.short is not None
        if asked.page or not wanted:
            continue
        print(f"{name} ...", end=" ", flush=True)
        script = HERE / f"{name}.py"
        limit = asked.limit or (14_400 if form == "full" else 900)
        new = measure(script, shlex.split(options), around, limit)
        print(f"{len(new['rows'])} rows, {new['seconds']:.0f} s" + f", {new['error']}" * bool(new["error"]))
        known = results.setdefault(name, {})
        known[form] = kept(known.get(form), new)
        failed += [name] if new["error"] else []
        write_json(RESULTS, results)
        write_text(PAGE, page.text(results, BENCHMARKS))
    write_text(PAGE, page.text(results, BENCHMARKS))
    print(f"wrote {shown([PAGE])}" + f"; failed: {', '.join(failed)}" * bool(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; what was measured before is kept")
