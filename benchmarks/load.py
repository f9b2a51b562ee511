"""Full stores and folders of runs: what each command takes as they grow tenfold, hundredfold, thousandfold.

The figures are processor time, so that other work on the machine counts for little.

python benchmarks/load.py                 20 to 20,000 artifacts and 10 to 10,000 runs (minutes)
python benchmarks/load.py --largest 100   up to a hundredfold
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from figures import Row, punie, report
from summarize import generate
from tabulate import tabulate

from punie.config import resolve
from punie.config.compose import compose
from punie.run import pipeline
from punie.store.artifacts import Store
from punie.store.keys import artifact_key

ARTIFACTS, RUNS = 20, 10
LINEAR = 10
"""Times as long, at most, with ten times as much."""
STAGES = ("train", "quantize", "evaluate", "report")
COMMANDS = {
    "plan": ["plan", "model=tiny"],
    "plan -m": ["plan", "-m", "model=tiny", "seed=range(20)"],
    "store ls": ["store", "ls"],
    "store gc": ["store", "gc"],
    "summarize": ["summarize", "outputs/runs"],
}


def fill(store: Path, count: int) -> None:
    """Artifacts of the default recipe with seeds that no plan here asks for: as near to it as can be."""
    config = resolve(compose(["model=tiny"]))
    plan = pipeline.plan(config, Store(store))
    materials = {step.stage.name: step.material for step in plan.steps if step.material is not None}
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        settings = {**materials[stage]["settings"], "lora.seed": 1000 + number}
        material = {**materials[stage], "settings": settings}
        folder = store / stage / artifact_key(material)
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"bytes")
        manifest = {
            "schema": 1,
            "stage": stage,
            "key": folder.name,
            "material": material,
            "files": {"file": {"sha256": "0" * 64, "size": 5}},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 1.0,
            "info": {},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def measure(largest: int, rounds: int) -> Iterator[Row]:
    before: dict[str, list[float]] = {}
    table = []
    for factor in (1, 10, 100, 1000):
        if factor > largest:
            break
        with tempfile.TemporaryDirectory(prefix="punie-load-") as name:
            outputs = Path(name) / "outputs"
            fill(outputs / "store", ARTIFACTS * factor)
            (outputs / "runs").mkdir()
            generate(outputs / "runs", RUNS * factor)
            taken = {
                name: [punie(*words, cwd=outputs.parent).processor for _ in range(rounds)]
                for name, words in COMMANDS.items()
            }
        sizes = f"{ARTIFACTS * factor:,} artifacts, {RUNS * factor:,} runs"
        table.append(
            [
                f"{ARTIFACTS * factor:,}",
                f"{RUNS * factor:,}",
                *(f"{statistics.median(each):.2f}" for each in taken.values()),
            ]
        )
        print(f"{sizes}: done", file=sys.stderr)
        if factor == largest:
            for name, words in COMMANDS.items():
                command = " ".join(("python -m punie", *words)) + "  # with a tenth of it there"
                what = f"`punie {name}`, {sizes}, against a tenth"
                yield Row(what, taken[name], "s", before.get(name, ()), command, at_most=LINEAR)
        before = taken
    print(tabulate(table, ["artifacts", "runs", *COMMANDS], "github", disable_numparse=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=1000, choices=(10, 100, 1000))
    parser.add_argument("--rounds", type=int, default=3, help="runs of each command")
    arguments = parser.parse_args()
    report(measure(arguments.largest, arguments.rounds))
