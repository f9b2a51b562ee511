"""What the embedded models do, before and after fine-tuning: the figures of docs/tiny-models.md.

    python benchmarks/tiny.py                    both models (half an hour)
    python benchmarks/tiny.py tiny --seeds 0     one of them, with one training (five minutes)

Every run starts from an empty store, so the time of the first is that of a fresh clone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
from figures import Row, report

SEEDS = (0, 1, 2, 3, 42)
TEMPERATURES = (0.0, 1.0)


@dataclass(frozen=True)
class Run:
    """One finished run."""

    results: dict[str, Any]
    """Its results.json."""
    samples: list[dict[str, Any]]
    """Its samples.jsonl."""
    seconds: float
    """Wall-clock time of the command."""

    def mean(self, score: str) -> float:
        """Mean of a score over all prompts."""
        return self.results["scores"][score]["overall"]["mean"]

    def by_prompt(self, score: str) -> list[float]:
        """The score of each prompt."""
        return [sample["scores"][score]["value"] for sample in self.samples]


def punie(store: Path, *overrides: str) -> Run:
    """Run the front door and read what it left."""
    done = figures.punie(f"store.dir={store}", *overrides, cwd=store)
    line = next(line for line in done.out.splitlines() if line.startswith("run directory: "))
    folder = store / line.removeprefix("run directory: ")
    samples = [json.loads(row) for row in (folder / "samples.jsonl").read_text("utf-8").splitlines()]
    return Run(json.loads((folder / "results.json").read_text("utf-8")), samples, done.seconds)


def named(run: Run, suite: Path) -> float:
    """Share of prompts whose answer names every expected tool, in whatever form."""
    items = {item["id"]: item for item in map(json.loads, suite.read_text("utf-8").splitlines())}
    hits = [
        all(expected["tool"] in sample["output"] for expected in items[sample["id"]]["expect"])
        for sample in run.samples
    ]
    return sum(hits) / len(hits)


def difference(first: Sequence[Run], second: Sequence[Run], score: str) -> tuple[float, float]:
    """Mean difference over prompts, each averaged over seeds, and its standard error (clusters: prompts)."""
    by_prompt = [
        statistics.mean(a - b for a, b in zip(firsts, seconds, strict=True))
        for firsts, seconds in zip(
            zip(*(run.by_prompt(score) for run in first), strict=True),
            zip(*(run.by_prompt(score) for run in second), strict=True),
            strict=True,
        )
    ]
    return statistics.mean(by_prompt), statistics.stdev(by_prompt) / len(by_prompt) ** 0.5


def measure(model: str, store: Path, seeds: Sequence[int]) -> Iterator[Row]:
    """Print one model's tables; a row for each figure that was asked for."""
    asked = model == "tiny"
    suites = Path(__file__).resolve().parent.parent / "data/suites"
    print(f"\n## {model}\n\n| base, temperature 0 | wrapper | tool named | keyword | strict |")
    print("|---|---:|---:|---:|---:|")
    for suite in ("core27", "wide270"):
        run = punie(store, f"model={model}", "eval.target=base", "eval.temperature=0", f"eval={suite}")
        rate = run.results["scores"]["wrapper_rate"]["mean"]
        share = named(run, suites / f"{suite}.jsonl")
        print(
            f"| {suite} | {rate:.1%} | {share:.1%} | {run.mean('keyword'):.3f} | {run.mean('strict'):.3f} |"
        )
        if suite == "core27":
            yield Row(f"base {model}, core27 at 0: wrapper", [100 * rate], "%", at_most=5)
            what = f"base {model}, core27 at 0: right tool named"
            yield Row(what, [100 * share], "%", at_least=85 if asked else None)
    runs: dict[tuple[str, float], list[Run]] = {}
    for seed in seeds:
        for suite in ("core27", "wide270"):
            for temperature in TEMPERATURES:
                options = (
                    f"model={model}",
                    f"seed={seed}",
                    f"eval={suite}",
                    f"eval.temperature={temperature}",
                )
                runs.setdefault((suite, temperature), []).append(punie(store, "+phase=43a", *options))
    first = runs["core27", 0.0]
    print(f"\n`+phase=43a model={model}` from an empty store: {first[0].seconds:.0f} s\n")
    what = f"`python -m punie +phase=43a model={model}` from an empty store"
    yield Row(what, [first[0].seconds], "s", at_most=120)
    good = sum(run.mean("keyword") >= 0.8 for run in first)
    what = f"{model}, core27 at 0: seeds with a keyword score of 0.80 and more"
    yield Row(what, [good], f"of {len(seeds)}", at_least=3 if asked and len(seeds) == len(SEEDS) else None)
    if len(seeds) == 1:
        return
    for suite in ("core27", "wide270"):
        print(
            f"| {suite}, seed | keyword at 0.0 | at 1.0 | strict at 0.0 | at 1.0 |\n|---|---:|---:|---:|---:|"
        )
        cells = {
            (score, temperature): [run.mean(score) for run in runs[suite, temperature]]
            for score in ("keyword", "strict")
            for temperature in TEMPERATURES
        }
        for row, seed in enumerate(seeds):
            print(f"| {seed} | {' | '.join(f'{values[row]:.3f}' for values in cells.values())} |")
        print(f"| mean | {' | '.join(f'{statistics.mean(v):.3f}' for v in cells.values())} |")
        print(
            f"| deviation over seeds | {' | '.join(f'{statistics.stdev(v):.3f}' for v in cells.values())} |"
        )
        for score in ("keyword", "strict"):
            mean, error = difference(runs[suite, 0.0], runs[suite, 1.0], score)
            print(f"\n{suite}, {score} at 0.0 above that at 1.0: {mean:+.3f} ± {error:.3f} (standard error)")
            if score == "keyword":
                what = f"{model}, {suite}: keyword score at 0 above that at 1, over its standard error"
                peer = "the standard error of the mean difference of prompts"
                yield Row(what, [mean], "", [error], peer, at_least=1 if asked else None)
        print()


def measure_all(models: Sequence[str], seeds: Sequence[int]) -> Iterator[Row]:
    for model in models:
        with tempfile.TemporaryDirectory() as store:
            yield from measure(model, Path(store), seeds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["tiny", "tiny_dense"])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    report(measure_all(arguments.models, arguments.seeds))
