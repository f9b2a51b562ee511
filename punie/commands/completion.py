"""Completion in a shell: Hydra's own, with the subcommands, and without what Hydra takes for a mistake."""

from __future__ import annotations

import os
from collections.abc import Collection

from punie.config.compose import quote_phases

_COMPOSING = ("plan", "prereg", "data")
"""Subcommands that take overrides; what the others take is mostly folders, which the shell itself knows."""


def prepare(commands: Collection[str]) -> bool:
    """Print the subcommands that complete the line, and leave to Hydra a line that it understands.

    The line is what a shell puts into ``COMP_LINE``, the program's name first.

    Args:
        commands: The names of the subcommands.

    Returns:
        Whether Hydra has anything to add.
    """
    line = os.environ.get("COMP_LINE")
    if line is None:
        return True  # install or uninstall
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
