"""Show what a run would do, without running it: each stage's key, hit or miss and why, and the disk it takes.

punie plan                          the default run
punie plan +phase=43a model=tiny    with overrides, as for python -m punie
punie plan -m seed=0,1,2 +phase=44  a sweep: its jobs, what they share, waves, disk and time
punie plan --estimate +phase=43a    parameters, folder sizes and peak memory as well, from the model's config
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from punie.util.printable import in_bytes

if TYPE_CHECKING:
    from punie.config.schema import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "overrides", nargs="*", help="as for python -m punie: GROUP=OPTION, key=value, +phase=NAME"
    )
    parser.add_argument("-m", "--multirun", action="store_true", help="the sweep over these overrides")
    parser.add_argument(
        "--estimate", action="store_true", help="also parameters, sizes and memory; needs no weights"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; 1 if the run could not start."""
    if arguments.multirun:
        return _sweep(arguments)
    from punie.config import resolve
    from punie.config.compose import compose
    from punie.model.resolve import NotCached
    from punie.run import pipeline
    from punie.stages import preflight
    from punie.store.artifacts import Store
    from punie.store.keys import SHORT
    from punie.util.errors import each_problem

    config = resolve(compose(arguments.overrides))
    plan = pipeline.plan(config, Store(Path(config.store.dir)))
    rows = [
        {
            "stage": step.name,
            "key": step.key,
            "state": step.state,
            "reason": step.reason,
        }
        for step in plan.steps
    ]
    found = [
        problem
        for step in plan.steps
        if step.problem is not None and not isinstance(step.problem, NotCached)
        for problem in each_problem(step.problem)
    ]
    found += preflight.machine(config, plan.needed_bytes, plan.parameters)
    problems = list(dict.fromkeys(map(str, found)))  # several stages can meet the same one
    estimated = estimate(config) if arguments.estimate else None
    if arguments.json:
        whole = {"stages": rows, "needed_bytes": plan.needed_bytes, "problems": problems}
        print(json.dumps(whole | ({"estimate": estimated} if estimated else {}), indent=1))
        return 1 if problems else 0
    shown = [[r["stage"], (r["key"] or "–")[:SHORT], r["state"], r["reason"]] for r in rows]
    print(
        tabulate(shown, ["stage", "key", "", "why"], tablefmt="simple", maxcolwidths=[None, None, None, 60])
    )
    print(f"\ndisk: about {in_bytes(plan.needed_bytes)} for what is missing, in {config.store.dir}")
    if estimated:
        print(f"\n{_words(estimated)}")
    for problem in problems:
        print(f"\nproblem: {problem}")
    print(f"next: {shlex.join(['python', '-m', 'punie', *arguments.overrides])}")
    return 1 if problems else 0


def _sweep(arguments: argparse.Namespace) -> int:
    """Print a sweep's plan; 1 if one of its jobs could not start."""
    from punie.stages import preflight
    from punie.sweep import preview

    plan = preview.plan(arguments.overrides)
    found = preview.figures(plan)
    seen: set[str] = set()
    for job in plan.jobs:
        keys = {part.key for part in plan.parts_of(job) if part.stage in ("base", "quantize")}
        if not keys <= seen:  # what a machine lacks depends on the model and its quantization
            seen |= keys
            problems = preflight.machine(job.typed(), found["needed_bytes"], plan.parameters[job.number])
            found["problems"] += map(str, problems)
    found["problems"] = list(dict.fromkeys(found["problems"]))
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 1 if found["problems"] else 0
    print(preview.text(found))
    for problem in found["problems"]:
        print(f"\nproblem: {problem}")
    print(f"next: {shlex.join(['python', '-m', 'punie', '-m', *arguments.overrides])}")
    return 1 if found["problems"] else 0


def estimate(config: Config) -> dict[str, Any]:
    """Sizes of the config's recipe on its model, from the model's config alone; bytes and counts.

    Raises:
        PunieError: Neither the model nor its dimensions are on this machine.
    """
    from punie.stages import memory

    sizes = memory.sizes(config, float32=False)
    longest = min(_longest_row(config), config.lora.max_seq_length)
    published = config.phase.baseline.training_peak_gb if config.phase and config.phase.baseline else None
    found = dataclasses.asdict(sizes)
    del found["training"]
    return found | {
        "training_peak": {
            str(tokens): memory.training_peak(config, sizes, tokens)
            for tokens in sorted({longest, config.lora.max_seq_length})
        },
        "longest_row_tokens": longest,
        "published_training_peak_gb": published,
    }


def _words(found: dict[str, Any]) -> str:
    """The estimate for a terminal."""
    total, trained = found["parameters"] / 1e6, found["trainable"] / 1e6
    peaks = [f"{in_bytes(size)} at {tokens} tokens" for tokens, size in found["training_peak"].items()]
    published = found["published_training_peak_gb"]
    rows = [
        ("parameters", f"{trained:,.3f} M trainable of {total:,.3f} M ({trained / total:.3%})"),
        ("base model", in_bytes(found["base_bytes"])),
        ("adapter", in_bytes(found["adapter_bytes"])),
        (
            "quantized model",
            f"{in_bytes(found['result_bytes'])}, {found['bits_per_weight']:.3f} bits per weight",
        ),
        ("training peak", "about " + ", ".join(peaks) + (f"; published {published} GB" if published else "")),
        ("fuse and quantize", f"about {in_bytes(found['quantize_bytes'])} of memory at a time"),
    ]
    note = (
        f"The data's longest row has about {found['longest_row_tokens']} tokens. Training memory is a GPU's, "
        "where the model\nstays as it is stored; on a CPU punie trains in float32: "
        f"{in_bytes(4 * found['parameters'])} for the weights alone."
    )
    return tabulate(rows, tablefmt="plain", disable_numparse=True) + "\n" + note


def _longest_row(config: Config) -> int:
    """Tokens of the data's longest row, roughly: three characters to a token, and eight tokens to a turn."""
    from punie.data.load import load_rows
    from punie.stages.inputs import SPLITS, data_folder

    folder = data_folder(config.data.path)
    return max(
        sum(len(message["content"]) // 3 + 8 for message in row.messages)
        for name in SPLITS
        for row in load_rows(folder / name)
    )
