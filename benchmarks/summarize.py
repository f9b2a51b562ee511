"""How long a summary takes, for 1,000 and 10,000 generated runs, with the memory it needs.

python benchmarks/summarize.py                 both (ten minutes, most of it for writing the runs)
python benchmarks/summarize.py --runs 1000     the smaller
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from figures import Row, report, run

from punie.config.compose import compose

CLAIMS = {1_000: 5, 10_000: 60}
"""Seconds, by number of runs."""
SEEDS = 25
TEMPERATURES = (0.0, 0.2, 0.5, 0.7)
TOKENS = 40
SUITE = Path(__file__).parents[1] / "data" / "suites" / "core27.jsonl"
LIGHT = """
import sys
from punie.__main__ import main
code = main(sys.argv[1:])
heavy = sorted({"mlx", "transformers"} & set(sys.modules))
sys.exit(f"imported {heavy}" if heavy else code)
"""
"""The front door; it fails where it imports what a summary has no use for."""


def generate(folder: Path, count: int) -> None:
    """Runs of as many learning rates as it takes, with records of the size that a real run has."""
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(compose(["model=tiny"]), resolve=True)
    suite = [json.loads(line) for line in SUITE.read_text("utf-8").splitlines()]
    rng = random.Random(0)
    for number in range(count):
        recipe, rest = divmod(number, SEEDS * len(TEMPERATURES))
        seed, place = divmod(rest, len(TEMPERATURES))
        config["lora"] |= {"seed": seed, "learning_rate": 1e-4 * (recipe + 1)}
        config["eval"] |= {"seed": seed, "temperature": TEMPERATURES[place]}
        rows = [record(item, rng) for item in suite]
        run = folder / f"{number:05d}"
        run.mkdir()
        (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (run / "status.json").write_text(json.dumps({"schema": 1, "status": "finished", "stages": []}))
        (run / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (run / "results.json").write_text(json.dumps(results(number, rows, TEMPERATURES[place])))


def record(item: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """An answer as samples.jsonl holds it."""
    value = float(rng.random() < 0.6)
    return {
        **{key: item[key] for key in ("id", "category", "prompt")},
        "repeat": 0,
        "missing": None,
        "output": "<tool_call> " * 16,
        "tokens": [rng.randrange(1024) for _ in range(TOKENS)],
        "logprobs": [round(-rng.random(), 5) for _ in range(TOKENS)],
        "wrapper": True,
        "calls": [{"tool": "read_file", "arguments": {"path": "src/app.py"}}],
        "scores": {name: {"value": value, "reason": "as drawn"} for name in ("keyword", "strict")},
        "taxonomy": "correct" if value else "wrong tool",
    }


def results(number: int, rows: list[dict[str, Any]], temperature: float) -> dict[str, Any]:
    """A results.json, its format lock included."""
    mean = sum(row["scores"]["strict"]["value"] for row in rows) / len(rows)
    grid = sorted({round(0.1 * step, 1) for step in range(16)} | {temperature})
    curve = [0.123456789] * len(grid)
    return {
        "schema": 2,
        "scores": {"strict": {"overall": {"mean": mean}}},
        "identity": {"suite": {"name": "core27", "sha256": "0" * 64}, "unverified": None},
        "generation": {"samples": len(rows)},
        "lock": {
            "temperatures": grid,
            "at": {"temperature": temperature},
            "prompts": {row["id"]: {"margin": 1.0, "strict": curve, "total": curve} for row in rows},
        },
        "artifacts": {"base": {"key": "0" * 64}, "evaluate": {"key": f"{number:064d}"}},
        "answers": "0" * 64,
    }


def measure(counts: list[int], rounds: int) -> Iterator[Row]:
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="punie-summarize-") as name:
            folder = Path(name)
            generate(folder, count)
            for words in ("simple", "html"):
                command = ("summarize", folder, "--format", words, "--out", folder / "summary")
                done = [run(sys.executable, "-c", LIGHT, *command) for _ in range(rounds)]
                what = f"`punie summarize --format {words}`, {count:,} runs"
                yield Row(what, [each.seconds for each in done], "s", at_most=CLAIMS.get(count))
                yield Row(f"{what}: peak memory", [each.memory for each in done], "MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=list(CLAIMS), help="how many to summarize")
    parser.add_argument("--rounds", type=int, default=3, help="of each command (default: %(default)s)")
    arguments = parser.parse_args()
    report(measure(arguments.runs, arguments.rounds))
