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
from punie.results import files
from punie.results.records import (
    ArtifactFiles,
    Call,
    Generation,
    Identity,
    Lock,
    LockAt,
    Margin,
    Named,
    PromptLock,
    Results,
    Sample,
    Sampled,
    Sampling,
    Scored,
    Status,
    Verdict,
    Weights,
)
from punie.results.scoring import summary

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
        files.write(run / "status.json", Status(version=Status.VERSION, status="finished"))
        files.write_samples(run / "samples.jsonl", rows)
        files.write(run / "results.json", results(number, rows, TEMPERATURES[place]))


def record(item: dict[str, Any], rng: random.Random) -> Sample:
    """A response as samples.jsonl holds it."""
    value = float(rng.random() < 0.6)
    call = Call(tool="read_file", arguments={"path": "src/app.py"})
    return Sample(
        **{key: item[key] for key in ("id", "category", "prompt")},
        repeat=0,
        prompt_sha256="0" * 64,
        prompt_tokens=100,
        expect=[call],
        match="any",
        missing=None,
        output="<tool_call> " * 16,
        tokens=[rng.randrange(1024) for _ in range(TOKENS)],
        logprobs=[round(-rng.random(), 5) for _ in range(TOKENS)],
        finish_reason="stop",
        wrapper=True,
        calls=[call],
        scores={name: Scored(value=value, reason="as sampled") for name in ("keyword", "strict")},
        taxonomy="correct" if value else "wrong tool",
    )


def results(number: int, samples: list[Sample], temperature: float) -> Results:
    """A run's results, the format lock included."""
    grid = sorted({round(0.1 * step, 1) for step in range(16)} | {temperature})
    curve = [0.123456789] * len(grid)
    prompt = PromptLock(margin=1.0, strict=curve, total=curve)
    sampled = Sampled(rate=1.0, n=len(samples), interval=(0.8, 1.0))
    digest = "0" * 64
    return Results(
        **dict(summary(samples)),
        version=Results.VERSION,
        target="quantized",
        sampling=Sampling(
            temperature=temperature, top_p=1.0, top_k=0, min_p=0.0, seed=0, repeats=1, max_tokens=96, stop=[]
        ),
        identity=Identity(
            unverified=None,
            weights=Weights(whole=digest),
            model=digest,
            tokenizer=digest,
            chat_template=digest,
            suite=Named(name="core27", sha256=digest),
            prompts=digest,
        ),
        generation=Generation(backend="mlx", samples=len(samples), tokens=1, seconds=1.0),
        answers=digest,
        lock=Lock(
            temperatures=grid,
            curves=[],
            prompts={sample.id: prompt for sample in samples},
            margin=Margin(value=1.0, prompt=samples[0].id),
            at=LockAt(temperature=temperature, strict=0.1, total=0.1, sampled=sampled),
        ),
        verdict=Verdict(summary="no phase", passed=None, criteria=[], outcome=None),
        artifacts={
            "base": ArtifactFiles(key=digest, files={}),
            "evaluate": ArtifactFiles(key=f"{number:064d}", files={}),
        },
    )


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
