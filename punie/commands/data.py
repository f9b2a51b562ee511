"""Training data: build punie's own, or check any data in chat format.

punie data build                          write data/code_mode again, from its seed and mix
punie data build --out my/data seed=7 data.mix.direct=0.2
punie data build --style native           write data/native_tools again: the same requests, with tool_calls
punie data suite --out select.jsonl       a suite to select checkpoints by, in the phrasings of validation
punie data check my/data                  problems of every example with file:line; overlaps; lengths
punie data check my/data model=qwen3_8b   lengths under that model's tokenizer
punie data check data=hub data.repo=OWNER/NAME    a data set of the hub that is on this machine
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from punie.commands.overrides import add_overrides, given
from punie.formats import AUTO

if TYPE_CHECKING:
    from punie.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    build = actions.add_parser("build", help="generate train.jsonl, valid.jsonl and the data card")
    build.add_argument("--out", help="folder to write (default: data/code_mode or data/native_tools)")
    check = actions.add_parser("check", help="report problems; exit code 1 on errors, 0 on warnings")
    words = "a folder with *.jsonl or Parquet files, or one file (default: the data that overrides name)"
    check.add_argument("path", nargs="?", help=words)
    suite = actions.add_parser("suite", help="generate a suite for lora.select=best_eval")
    words = "file to write (default: data/suites/select52.jsonl or native52.jsonl)"
    suite.add_argument("--out", help=words)
    suite.add_argument("--per-tool", type=int, default=2, help="items of each tool (default: %(default)s)")
    for action in (build, suite):
        words = "calls as code, or as tool_calls beside the schemas of a few tools (default: %(default)s)"
        action.add_argument("--style", choices=("code_mode", "native"), default="code_mode", help=words)
    for action in (build, suite, check):
        add_overrides(action)


def run(arguments: argparse.Namespace) -> int:
    """Run the action; check returns 1 if there are errors."""
    if arguments.action == "check":
        return _check(arguments)
    from punie.config.compose import composition

    config = composition(given(arguments)).config
    folder, suite = ("native_tools", "native52") if arguments.style == "native" else ("code_mode", "select52")
    if arguments.action == "build":
        return _build(Path(arguments.out or f"data/{folder}"), config, arguments.style)
    out = Path(arguments.out or f"data/suites/{suite}.jsonl")
    return _suite(out, config.seed, arguments.per_tool, arguments.style)


def _build(out: Path, config: Config, style: str) -> int:
    from punie.embedded.generate import DEFAULT_MIX, write

    data = config.data
    rows = {"train_rows": data.expected_train, "valid_rows": data.expected_valid}
    counts = {name: count for name, count in rows.items() if count is not None}
    write(out, seed=config.seed, mix=data.mix or DEFAULT_MIX, style=style, **counts)
    print(f"wrote {out}/train.jsonl, valid.jsonl and README.md; next: punie data check {out}")
    return 0


def _suite(out: Path, seed: int, per_tool: int, style: str) -> int:
    from punie.embedded.generate import selection_suite
    from punie.util.files import write_lines

    items = selection_suite(seed=seed, per_tool=per_tool, style=style)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_lines(out, items)
    print(f"wrote {len(items)} items to {out}")
    data = "data=native_tools eval=native27 " if style == "native" else ""
    print(f"next: python -m punie {data}lora.select=best_eval lora.select_suite={out}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from punie.config.compose import composition
    from punie.data.convert import notes
    from punie.data.validate import check
    from punie.evals.suite import load_suite
    from punie.model import blas
    from punie.model.resolve import NotCached
    from punie.stages import base, chats, preflight, tokens
    from punie.stages.inputs import conversion, resource_or_path, suite_path
    from punie.util.progress import Reporter

    path, overrides = arguments.path, given(arguments)
    if path and "=" in path and not Path(path).exists():  # an override
        path, overrides = None, given(arguments, [path, *arguments.overrides])
    config = composition(overrides).config
    if path:
        config.data.path, config.data.repo = path, None
    blas.activate(config.runtime.blas)
    from punie.model.load import tokenizer

    loaded = tokenizer(base.ready(config, Reporter()))
    try:
        converted = conversion(config.data)
    except NotCached:
        preflight.acquire(preflight.STAGE.settings(config), Reporter())
        converted = conversion(config.data)
    name = config.data.repo or config.data.path
    place = converted.path if converted else Path(path) if path else resource_or_path(config.data.path or "")
    files = [*place.glob("*.jsonl")] if place.is_dir() else [place] if place.is_file() else []
    if config.format == AUTO:
        config.format = chats.decided(files, config.tools.path)
    settings = preflight.STAGE.settings(config)
    items = load_suite(suite_path(config.eval.suite), chats.tools(settings))
    with Reporter().bar("checking", 100, "%") as bar:
        report = check(
            place,
            tokens.check(settings, loaded, files),
            name=name if converted else None,
            suites={config.eval.suite: {n: turn.prompt for item in items for n, turn in item.named_turns}},
            progress=lambda done, total: bar(100 * done // max(total, 1)),
        )
    print(report.render(), end="")
    for note in [*notes(converted.info, name), f"its rows are in {place}"] if converted else ():
        print(f"note: {note}")
    if report.errors:
        print(f"\n{len(report.errors)} errors; next: fix these examples and run again", file=sys.stderr)
        return 1
    named = ["data=jsonl", f"data.path={path}"] if path else []
    again = [*named, *overrides]
    print(f"\nnext: {shlex.join(['python', '-m', 'punie', *again])}")
    return 0
