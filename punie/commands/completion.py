"""Shell completion: Hydra's own, with the subcommands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection

from punie.config.compose import quote_phases
from punie.util.errors import PunieError

_COMPOSING = ("plan", "prereg", "data")
"""Subcommands that take overrides; the others mostly take folders, which the shell completes itself."""


def complete(commands: Collection[str], by_hydra: Callable[[], int]) -> int:
    """Print what completes the shell's line, or a completion script; returns the exit code."""
    sys.argv[0] = "punie"  # the program to complete; with python -m it would be python itself
    if "COMP_LINE" not in os.environ:
        return by_hydra()  # print the script to install
    if not _prepare(commands):
        return 0
    try:
        return by_hydra()
    except (PunieError, ValueError):
        return 1  # an unfinished line need not compose


def _prepare(commands: Collection[str]) -> bool:
    """Print the subcommands that complete the line, and rewrite it for Hydra; False where Hydra has no part.

    The line is what a shell puts into ``COMP_LINE``, the program's name first.
    """
    line = os.environ["COMP_LINE"]
    program, *words = line.split()
    current = words.pop() if words and not line.endswith(" ") else ""
    if words and words[0] in commands:
        if words[0] not in _COMPOSING:
            return False
        words = [word for word in words if "=" in word or word == "-m"]
    elif not words:
        print("\n".join(name for name in commands if name.startswith(current)))
    os.environ["COMP_LINE"] = " ".join([program, *quote_phases(words), current])
    return True
