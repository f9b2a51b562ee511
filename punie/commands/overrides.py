"""The arguments that commands share: overrides, Hydra's flags that say where presets are, and paths."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

_FLAGS = {"config_dir": "--config-dir", "config_name": "--config-name"}


def add_overrides(parser: argparse.ArgumentParser, multirun: str | None = None) -> None:
    """Declare the overrides and flags; ``multirun`` is the help of ``-m``, if the command takes it."""
    words = "as for python -m punie: +phase=NAME, GROUP=OPTION, key=value"
    parser.add_argument("overrides", nargs="*", help=words)
    if multirun is not None:
        parser.add_argument("-m", "--multirun", action="store_true", help=multirun)
    add_flags(parser)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags alone."""
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder with presets of your own")
    parser.add_argument("--config-name", "-cn", metavar="NAME", help="the config to begin with")


def given(arguments: argparse.Namespace, overrides: Sequence[str] | None = None) -> list[str]:
    """The overrides, after the flags that were given with them: a command line for ``compose``."""
    flags = [(flag, getattr(arguments, name)) for name, flag in _FLAGS.items()]
    overrides = arguments.overrides if overrides is None else overrides
    return [*(f"{flag}={value}" for flag, value in flags if value is not None), *overrides]


def path_of(text: str) -> Path:
    """A path, its ``~`` expanded: a shell leaves it in ``--store=~/store`` and in quotes."""
    return Path(text).expanduser()
