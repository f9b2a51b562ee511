"""Show what a run would do, without running it: cached stages, stages to run and why, and disk space.

punie plan                          the default run
punie plan +phase=43a model=tiny    with overrides, as for python -m punie
punie plan -m seed=0,1,2 +phase=44  a sweep: its jobs, shared stages, waves, disk space and time
punie plan --estimate +phase=43a    also parameters, sizes and peak memory, from the model's config
punie plan -m --like DIR seed=0,1   with the power of your own variances, from runs in DIR

For a phase or a sweep it also shows the power: the differences that it will detect.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.commands.overrides import add_overrides, given, path_of
from punie.util.errors import PunieError
from punie.util.printable import in_bytes

if TYPE_CHECKING:
    from punie.config.compose import Composition
    from punie.config.schema import Config
    from punie.results.config import RunConfig
    from punie.results.summary.expected import Expected
    from punie.sweep.preview import Figures

_STATES = {"hit": "cached", "miss": "to run", "skip": "not needed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_overrides(parser, multirun="plan the sweep over these overrides")
    parser.add_argument("--estimate", action="store_true", help="also sizes and memory; needs no weights")
    parser.add_argument(
        "--like", type=path_of, metavar="DIR", help="runs whose variances the power is for (default: tiny's)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; 1 if the run could not start."""
    thresholds = gc.get_threshold()
    gc.set_threshold(200_000)  # composing creates many objects (80,000) and drops few
    try:
        found = _planned(arguments)
    finally:
        gc.set_threshold(*thresholds)
    found["problems"] = list(dict.fromkeys(map(str, found["problems"])))  # several stages can have the same
    if arguments.json:
        power = found["power"] and dataclasses.asdict(found["power"])
        print(json.dumps(found | {"power": power}, indent=1))
        return 1 if found["problems"] else 0
    if "jobs" in found:
        from punie.sweep.preview import text

        print(text(found))
    else:
        print(_text(found))
    if (power := found["power"]) is not None:
        from punie.results.summary.expected import in_words

        print(f"\n{in_words(power)}")
    for problem in found["problems"]:
        print(f"\nproblem: {problem}")
    flags = ["-m"] if "jobs" in found else []
    print(f"next: {shlex.join(['python', '-m', 'punie', *flags, *given(arguments)])}")
    return 1 if found["problems"] else 0


def _planned(arguments: argparse.Namespace) -> Figures:
    """The plan of a run or a sweep, as plain values."""
    from punie.config.command import CommandLine
    from punie.config.compose import composition, sweeps

    line = CommandLine.read([*(["-m"] if arguments.multirun else []), *given(arguments)])
    if not sweeps(line) and not (found := composition(line.arguments)).multirun:
        return _run(found, arguments)
    return _sweep(line.arguments, arguments.like)


def _run(composition: Composition, arguments: argparse.Namespace) -> Figures:
    """The plan of one run, as plain values."""
    from omegaconf import OmegaConf

    from punie.model.resolve import NotCached
    from punie.run import pipeline
    from punie.stages import machine
    from punie.store.artifacts import Store
    from punie.util.errors import each_problem

    composed, config = composition.composed, composition.config
    plan = pipeline.plan(config, Store(Path(config.store.dir)))
    errors = [step.problem for step in plan.steps if not isinstance(step.problem, NotCached)]
    problems = [problem for error in errors if error is not None for problem in each_problem(error)]
    artifact = plan.by_name["preflight"].artifact  # what only the tokenizer can tell
    checked = artifact.info if artifact else {}
    found: Figures = {
        "stages": [
            {"stage": step.name, "key": step.key, "state": step.state, "reason": step.reason}
            for step in plan.steps
        ],
        "format": _format(config),
        "rendered": {key: checked[key] for key in ("format", "opening") if key in checked},
        "data": _data(config),
        "training": _training(config) if "train" in plan.by_name else None,
        "store": config.store.dir,
        "needed_bytes": plan.needed_bytes,
        "problems": [*problems, *machine.shortages(config, plan.bytes, plan.parameters)],
        "power": None,
    }
    if config.phase or arguments.like:
        from punie.results.config import RunConfig

        values = OmegaConf.to_container(composed, resolve=True)
        found["power"] = _power([RunConfig.parse(values, Path("the config"))], arguments.like)
    return found | ({"estimate": estimate(config)} if arguments.estimate else {})


def _data(config: Config) -> dict[str, Any]:
    """Where data that had to be converted came from; empty if they did not, or are not there."""
    from punie.stages.inputs import data_source

    try:
        return data_source(config.data)
    except PunieError:
        return {}


def _training(config: Config) -> dict[str, Any] | None:
    """How long the training is; None if the data are not there."""
    from punie.stages import train

    settings = train.STAGE.settings(config)
    try:
        length, certain = train.planned(settings)
        kept = train.frozen(settings, length.passes(config.lora))
    except PunieError:
        return None
    return {
        **length._asdict(),
        "certain": certain,
        "frozen": kept and {**kept._asdict(), "words": kept.in_words},
    }


def _format(config: Config) -> str | None:
    """How calls are written; None if the data are not there."""
    from punie.stages import chats, preflight

    try:
        return chats.name(preflight.STAGE.settings(config))
    except PunieError:
        return None


def _power(configs: Sequence[RunConfig], like: Path | None) -> Expected | None:
    """What the runs will be able to show; None for different suites, or one that is not there.

    Raises:
        PunieError: The runs of ``like`` have no variances.
    """
    from punie.results.summary import expected
    from punie.stages.inputs import suite_path

    phase = configs[0].phase
    score = phase.score if phase and phase.score in expected.TINY else "strict"
    variances = expected.measured([like], score) if like else expected.TINY[score]
    suites = {str(config.value("eval.suite")) for config in configs}
    if len(suites) > 1:
        return None
    try:
        lines = suite_path(suites.pop()).read_text("utf-8").splitlines()
    except (PunieError, OSError, ValueError):  # the plan's problems say so
        return None
    prompts = sum(bool(line.strip()) for line in lines)
    return expected.expected(configs, prompts, phase, variances, score) if prompts > 1 else None


def _sweep(line: Sequence[str], like: Path | None) -> Figures:
    """The plan of a sweep, as plain values."""
    from punie.stages import machine
    from punie.sweep import preview

    plan = preview.plan(line)
    found = preview.figures(plan)
    found["power"] = _power([job.config for job in plan.jobs], like) if plan.jobs else None
    seen: set[str] = set()
    for job in plan.jobs:
        keys = {part.key for part in plan.parts_of(job) if part.stage in ("base", "quantize")}
        if not keys <= seen:  # memory and disk space depend on the model and its quantization
            seen |= keys
            needed, parameters = {"": found["needed_bytes"]}, plan.parameters[job.number]
            found["problems"] += machine.shortages(job.typed(), needed, parameters)
    return found


def _text(found: Figures) -> str:
    """The plan of one run for a terminal."""
    from tabulate import tabulate

    from punie.store.keys import SHORT

    rows = [
        [row["stage"], (row["key"] or "–")[:SHORT], _STATES.get(row["state"], row["state"]), row["reason"]]
        for row in found["stages"]
    ]
    blocks = [
        tabulate(rows, ["stage", "key", "", "why"], tablefmt="simple", maxcolwidths=[None, None, None, 60]),
        f"disk space: about {in_bytes(found['needed_bytes'])} for the stages to run, in {found['store']}"
        + ("" if Path(found["store"]).is_dir() else " (a new one; store.dir=FOLDER names another)"),
    ]
    if source := found["data"].get("source", {}).get("repo"):
        commit = found["data"]["source"]["commit"]
        blocks.append(f"data: {source} at commit {commit}, as on this machine (data.revision)")
    if length := found.get("training"):
        each = "" if length["certain"] else " (each row counts as one example until they are rendered)"
        kept = f"\nfrozen layers: {length['frozen']['words']}" if length["frozen"] else ""
        blocks.append(f"training: {length['in_words']}{each}{kept}")
    rendered = found["rendered"]
    if "opening" in rendered and rendered["format"] != "code_mode":
        begins = f", calls begin with {json.dumps(rendered['opening'])}" if rendered["opening"] else ""
        blocks.append(f"format: {rendered['format']}{begins}")
    elif found["format"] == "native":
        blocks.append("calls: by the model's chat template, or in the prompt if that knows no tools (format)")
    if "estimate" in found:
        blocks.append(_estimate_text(found["estimate"]))
    return "\n\n".join(blocks)


def estimate(config: Config) -> Figures:
    """Sizes of the config's recipe on its model, from the model's config alone; bytes and counts.

    Raises:
        PunieError: Neither the model nor its dimensions are on this machine.
    """
    from punie.model.resolve import hub_config
    from punie.stages import memory
    from punie.stages.inputs import model_config

    if config.model.repo and not model_config(config):
        dimensions = hub_config(config.model.repo, config.model.revision)
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, dimensions=dimensions))
    sizes = memory.sizes(config, float32=False)
    longest = min(_longest_row(config), config.lora.max_seq_length)
    baseline = config.phase.baseline if config.phase else None
    found = dataclasses.asdict(sizes)
    del found["training"]
    lengths = sorted({longest, config.lora.max_seq_length})
    return found | {
        "training_peak": {str(each): memory.training_peak(config, sizes, each) for each in lengths},
        "longest_row_tokens": longest,
        "published_training_peak_gb": baseline.training_peak_gb if baseline else None,
    }


def _estimate_text(found: Figures) -> str:
    from tabulate import tabulate

    total, trained = found["parameters"] / 1e6, found["trainable"] / 1e6
    peaks = ", ".join(f"{in_bytes(size)} at {each} tokens" for each, size in found["training_peak"].items())
    published = found["published_training_peak_gb"]
    result = f"{in_bytes(found['result_bytes'])}, {found['bits_per_weight']:.3f} bits per weight"
    rows = [
        ("parameters", f"{trained:,.3f} M trainable of {total:,.3f} M ({trained / total:.3%})"),
        ("base model", in_bytes(found["base_bytes"])),
        ("adapter", in_bytes(found["adapter_bytes"])),
        ("quantized model", result),
        ("training peak", f"about {peaks}" + (f"; published {published} GB" if published else "")),
        ("fuse and quantize", f"about {in_bytes(found['quantize_bytes'])} of memory at a time"),
    ]
    note = (
        f"The longest example has about {found['longest_row_tokens']} tokens. The peak is that of a GPU.\n"
        f"A CPU trains in float32, with {in_bytes(4 * found['parameters'])} for the weights alone."
    )
    return tabulate(rows, tablefmt="plain", disable_numparse=True) + "\n" + note


def _longest_row(config: Config) -> int:
    """Approximate tokens of the longest example: one for three characters, and eight for each turn."""
    from punie.data.load import load_rows
    from punie.stages.inputs import SPLITS, data_folder

    folder = data_folder(config.data)
    return max(
        sum(len(message["content"] + str(message.get("tool_calls", ""))) // 3 + 8 for message in row.messages)
        + len(str(row.tools or row.text or "")) // 3
        for name in SPLITS
        for row in load_rows(folder / name)
    )
