"""What the front door prints without a subcommand: its help, without importing Hydra, and completion."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection

from punie.util.errors import PunieError
from punie.util.paths import resource

_TEXT = """\
punie: reproducible fine-tuning and evaluation of local tool-calling models on MLX.

Run a pipeline            python -m punie [OVERRIDE ...]
  python -m punie                              the embedded tiny model, about two minutes
  python -m punie +phase=43a model=tiny        a phase, on the tiny model
  python -m punie seed=1 eval.temperature=0.2  change fields; unchanged stages are reused
  python -m punie -m seed=0,1,2 eval.temperature=0.0,0.7      a sweep: every combination

Look before you run
  punie plan [OVERRIDE ...]   cached stages, stages to run and why, disk space
  punie doctor                check this machine
  python -m punie --cfg job   the composed config; --info defaults: the files it comes from

Commands, each with --help
{commands}

Groups and their options: GROUP=OPTION, and +phase=OPTION
{groups}

Set fields by name, such as lora.rank=16 or eval.temperature=0; --cfg job lists them all.
A run writes outputs/runs/<name>/<utc>-<id>/ with report.html, results.json and samples.jsonl.
PUNIE_DEBUG=1 shows tracebacks; --hydra-help explains Hydra's own flags.
"""
_COMPOSING = ("plan", "prereg", "data")
"""Subcommands that take overrides; the others mostly take folders, which the shell completes itself."""
_SHOWN = ("phase", "model", "data", "lora", "quantize", "eval", "track")


def text(commands: dict[str, str]) -> str:
    """The help, with the given commands and the groups found in conf/."""
    conf = resource("conf")
    groups = {name: sorted(path.stem for path in (conf / name).glob("*.yaml")) for name in _SHOWN}
    width = max(map(len, commands))
    return _TEXT.format(
        commands="\n".join(f"  punie {name:<{width}} {words}" for name, words in commands.items()),
        groups="\n".join(f"  {name:<10}{', '.join(options)}" for name, options in groups.items()),
    )


def complete(commands: Collection[str], by_hydra: Callable[[], int]) -> int:
    """Print what completes the shell's line, or a completion script; returns the exit code.

    The line is what a shell puts into ``COMP_LINE``, the program's name first. Hydra completes the overrides.
    """
    from punie.config.command import quote_options

    sys.argv[0] = "punie"  # the program to complete; with python -m it would be python itself
    if (line := os.environ.get("COMP_LINE")) is None:
        return by_hydra()  # print the script to install
    program, *words = line.split()
    current = words.pop() if words and not line.endswith(" ") else ""
    if not words:
        print("\n".join(name for name in commands if name.startswith(current)))
    elif words[0] in commands:
        if words[0] not in _COMPOSING:
            return 0
        words = [word for word in words if "=" in word or word == "-m"]
    os.environ["COMP_LINE"] = " ".join([program, *quote_options(words), current])
    try:
        return by_hydra()
    except (PunieError, ValueError):
        return 1  # an unfinished line need not compose
