"""Compare two runs, or two configs before they run: what differs, where they diverge, which answers changed.

punie diff outputs/runs/NAME/ID outputs/runs/NAME/ID    two runs; a sweep's jobs/NNN, too
punie diff 33b 43a                                      two phases
punie diff outputs/runs/NAME/ID "model=tiny lora.seed=1"    a run and overrides, as for python -m punie

The exit code is 0 if nothing that decides the result differs, 1 if something does, 2 if A or B is no run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from punie.commands.finished import read_object, unfinished
from punie.errors import PunieError
from punie.printable import printable

if TYPE_CHECKING:
    from punie.evals.comparison import Comparison
    from punie.provenance.diff import Change, Difference, Side, StageChange

_TROUBLE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    for name in ("a", "b"):
        parser.add_argument(
            name, metavar=name.upper(), help="a run's directory, a phase, or overrides in quotes"
        )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
    parser.add_argument("--outputs", action="store_true", help="show both answers of each changed prompt")
    parser.add_argument("--store", type=Path, metavar="DIR", help="the store (default: each run's own)")


def run(arguments: argparse.Namespace) -> int:
    """Print what differs."""
    from punie.provenance.diff import compare

    try:
        a, b = (_side(name, arguments.store) for name in (arguments.a, arguments.b))
        difference = compare(a, b)
        scores = _scores(arguments.a, arguments.b)
    except PunieError as error:
        error.exit_code = _TROUBLE  # 1 says that the two differ
        raise
    if arguments.format == "json":
        print(json.dumps(_json(a, b, difference, scores, arguments.outputs), indent=1, ensure_ascii=False))
    else:
        print("\n\n".join(_text(a, b, difference, scores, arguments.outputs)))
    return 0 if difference.same else 1


# Reading the two sides.


def _side(name: str, store: Path | None) -> Side:
    folder = Path(name)
    if name and folder.is_dir():
        return _run(folder, store)
    return _config(name, store)


def _run(folder: Path, root: Path | None) -> Side:
    """What a run's directory and the store know of it; a run that failed has fewer stages."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from punie.provenance.diff import CHAIN, Side
    from punie.store.artifacts import Store

    if (folder / "jobs").is_dir() and not (folder / "config.yaml").exists():
        raise PunieError(
            "This is a sweep; its jobs can be compared.",
            where=folder,
            next_step=f"punie diff {folder}/jobs/...",
        )
    try:
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=True)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        words = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
        raise unfinished(folder, f"config.yaml: {words}") from None
    status = read_object(folder, "status.json")
    results = read_object(folder, "results.json") if (folder / "results.json").exists() else {}
    try:
        keys = {row["stage"]: str(row["key"]) for row in status["stages"]}
        named = {stage: dict(entry["files"]) for stage, entry in results.get("artifacts", {}).items()}
        keys |= {stage: str(results["artifacts"][stage]["key"]) for stage in named}  # those not needed, too
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unfinished(folder, f"status.json or results.json is not a run's: {error}") from None
    if not isinstance(config, dict):
        raise unfinished(folder, "config.yaml holds no config")
    store = Store(root or Path(status.get("store") or "outputs/store"))
    kept = {stage: found for stage in CHAIN if stage in keys and (found := store.find(stage, keys[stage]))}
    return Side(
        name=str(folder),
        config=config,  # ty: ignore[invalid-argument-type]
        provenance=read_object(folder, "provenance.json"),
        keys={stage: keys[stage] for stage in CHAIN if stage in keys},
        materials={stage: artifact.manifest["material"] for stage, artifact in kept.items()},
        files=named,
    )


def _config(text: str, root: Path | None) -> Side:
    """What a run with these overrides would be, here and now."""
    from omegaconf import OmegaConf

    from punie import pipeline
    from punie.config import resolve
    from punie.config.compose import compose
    from punie.paths import resource
    from punie.provenance.capture import capture
    from punie.provenance.diff import CHAIN, Side
    from punie.store.artifacts import Store

    try:
        overrides = shlex.split(text)
    except ValueError as error:
        raise PunieError("The overrides cannot be split.", where=text, found=str(error)) from None
    phases = sorted(path.stem for path in (resource("conf") / "phase").glob("*.yaml"))
    if text in phases:
        overrides = [f"+phase={text}"]
    elif not all("=" in override or override.startswith("~") for override in overrides):
        raise PunieError(
            "This is neither a run's directory, nor a phase, nor overrides.",
            where=text,
            expected=f"a folder, one of {', '.join(phases)}, or for instance 'model=tiny lora.seed=1'",
        )
    composed = compose(overrides)
    config = resolve(composed)
    plan = pipeline.plan(config, Store(root or Path(config.store.dir)))
    steps = {step.stage.name: step for step in plan.steps if step.stage.name in CHAIN}
    return Side(
        name=text or "the default config",
        config=OmegaConf.to_container(composed, resolve=True),  # ty: ignore[invalid-argument-type]
        provenance=capture(argv=[], overrides=overrides, config_digest=""),
        keys={name: step.key for name, step in steps.items() if step.key is not None},
        materials={name: step.material for name, step in steps.items() if step.material is not None},
    )


def _scores(a: str, b: str) -> Comparison | str | None:
    """The answers compared, or why they are not; None unless both are runs."""
    from punie.evals.comparison import compare
    from punie.evals.reading import read_records

    folders = [Path(name) for name in (a, b) if name and Path(name).is_dir()]
    if len(folders) < 2:
        return None
    records = []
    for folder in folders:
        path = folder / "samples.jsonl"
        if not path.exists():
            return f"{folder} has no answers"
        records.append(read_records(path))
    try:
        return compare(*records)
    except ValueError as error:
        return str(error)


# Showing.


def _text(
    a: Side, b: Side, difference: Difference, scores: Comparison | str | None, outputs: bool
) -> Iterator[str]:
    yield f"A  {a.name}\nB  {b.name}"
    if difference.stages:
        yield f"first divergence: {_divergence(difference.stages[0])}"
        rows = [[change.stage, _reason(change)] for change in difference.stages]
        yield _table("stages that differ", rows, ["stage", "why"])
    elif difference.same:
        yield "Nothing that decides the result differs."
    else:
        yield "Where they diverge is not known: a model or data is not here, or no stage reads what differs."
    for axis, changes in difference.axes.items():
        if changes:
            rows = [[change.key, _value(change.a), _value(change.b)] for change in changes]
            yield _table(axis, rows, ["", "A", "B"])
    if isinstance(scores, str):
        yield f"The scores are not compared: {_visible(scores)}."
    elif scores is not None:
        yield from _comparison(scores, outputs)


def _divergence(change: StageChange) -> str:
    if change.state == "bytes":
        return f"{change.stage}, though its key is the same: {_reason(change)}"
    return (
        f"{change.stage}, because {_reason(change)}"
        if change.changes
        else f"{change.stage}: {_reason(change)}"
    )


def _reason(change: StageChange) -> str:
    if change.state.startswith("only"):
        return f"in {change.state[-1].upper()} only"
    if change.state == "bytes":
        return "other bytes in " + ", ".join(file.key for file in change.changes)
    shown = [f"{c.key} {_value(c.a)} → {_value(c.b)}" for c in change.changes]
    shown += [f"{stage} differs" for stage in change.upstream]
    return ", ".join(shown) or "its key differs, and what it was made from is no longer in the store"


def _comparison(scores: Comparison, outputs: bool) -> Iterator[str]:
    from punie.evals.statistics import minimum_detectable_effect, prompts_paired

    rows, notes = [], []
    for name, test in scores.paired.items():
        mean_a, mean_b = scores.means[name]
        gap, count = test.difference, len(test.differences)
        row = [name, f"{mean_a:.3f}", f"{mean_b:.3f}", f"{gap.estimate:+.3f}"]
        row += [f"{gap.low:+.3f} to {gap.high:+.3f}", f"{test.p_value:.3f}"]
        rows.append([*row, f"{test.up} / {test.down} / {test.unchanged}"])
        if test.discordance and gap.estimate:
            seen = minimum_detectable_effect(count, test.discordance)
            needed = prompts_paired(gap.estimate, test.discordance)
            notes.append(
                f"{name}: {count} prompts that change as much as these show a difference from {seen:.2f} on; "
                f"one of {abs(gap.estimate):.3f} takes {needed:,}."
            )
    head = ["", "A", "B", "B - A", "95 % interval", "p", "up / down / same"]
    yield "\n".join([_table("scores", rows, head), *notes])
    if not scores.changed:
        return
    rows = []
    for prompt in scores.changed:
        moved = [f"{before:.2f} → {after:.2f}" for before, after in prompt.scores.values()]
        answer = " → ".join(dict.fromkeys(prompt.taxonomy))
        rows.append([_visible(text) for text in (prompt.id, prompt.category, *moved, answer)])
    yield _table(f"prompts that changed: {len(rows)}", rows, ["prompt", "category", *scores.paired, "answer"])
    if outputs:
        width = max(20, (shutil.get_terminal_size((120, 24)).columns - 4) // 2)
        for prompt in scores.changed:
            sides = [[_visible("\n---\n".join(side)) for side in prompt.outputs]]
            body = tabulate(
                sides,
                ["A", "B"],
                "simple",
                disable_numparse=True,
                maxcolwidths=width,
                preserve_whitespace=True,
            )
            yield f"{prompt.id}: {_visible(prompt.prompt)}\n{body}"


def _table(title: str, rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    return f"{title}\n{tabulate(rows, head, 'simple', disable_numparse=True)}"


def _value(value: object) -> str:
    """A value for a table: short, on one line."""
    from punie.jsonl import excerpt
    from punie.store.keys import SHORT

    if value is None:
        return "–"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", value):
        return value[:SHORT]
    return _visible(excerpt(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))


def _visible(text: str) -> str:
    """A model's output line by line, as a terminal can show it."""
    return "\n".join(map(printable, text.split("\n")))


def _json(
    a: Side, b: Side, difference: Difference, scores: Comparison | str | None, outputs: bool
) -> dict[str, Any]:
    def plain(changes: Sequence[Change]) -> list[dict[str, Any]]:
        return [dataclasses.asdict(change) for change in changes]

    whole: dict[str, Any] = {
        "a": a.name,
        "b": b.name,
        "same": difference.same,
        "first_divergence": difference.stages[0].stage if difference.stages else None,
        "stages": [dataclasses.asdict(stage) for stage in difference.stages],
        "axes": {axis: plain(changes) for axis, changes in difference.axes.items()},
        "scores": None,
        "not_compared": scores if isinstance(scores, str) else None,
    }
    if scores is not None and not isinstance(scores, str):
        whole["scores"] = {
            name: {"a": scores.means[name][0], "b": scores.means[name][1], **dataclasses.asdict(test)}
            for name, test in scores.paired.items()
        }
        whole["changed"] = [dataclasses.asdict(prompt) for prompt in scores.changed]
        if not outputs:
            for prompt in whole["changed"]:
                del prompt["outputs"]
    return whole
