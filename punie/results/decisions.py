"""Where in the tree of phases an outcome puts the user, and the command that goes on from there.

The tree is data: every outcome of a preset names the phase that follows (``next``), or none.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from punie.config.presets import Preset, presets
from punie.results.records import Phase

_CARRIED = ("model", "data", "store", "runtime")
"""Groups whose overrides hold for the next phase too: what it is run on, not how it trains or asks."""


@dataclass(frozen=True)
class Decision:
    """One step through the tree."""

    path: tuple[str, ...]
    """The phases that lead here, this one last."""
    verdict: str
    """The outcome's, as registered."""
    next: str | None
    """The phase to run now; None where the tree ends."""
    command: str | None
    """What runs it."""

    def __str__(self) -> str:
        if self.command is None:
            return f"nothing, the tree of phases ends here ({' → '.join(self.path)}: {self.verdict})"
        return f"{self.command}  ({' → '.join([*self.path, str(self.next)])})"


def decide(phase: Phase, verdict: str | None, overrides: Sequence[str] = ()) -> Decision | None:
    """What a phase's outcome leads to.

    Args:
        phase: The phase, outcomes included.
        verdict: That of one of its outcomes; None if no outcome fits.
        overrides: Those of the run; the ones that say what it ran on are carried to the next command.

    Returns:
        None if the phase has no such outcome.
    """
    outcome = next((each for each in phase.outcomes if each.verdict == verdict), None)
    if outcome is None:
        return None
    known = presets()
    path = place(phase.id, known)
    if not outcome.next:
        return Decision(path, outcome.verdict, None, None)
    following, *own = outcome.next.split()
    runs = known[following].command if following in known else f"python -m punie +phase={following}"
    command = " ".join([runs, *map(shlex.quote, [*own, *_carried(overrides)])])
    return Decision(path, outcome.verdict, following, command)


def place(phase: str, known: Mapping[str, Preset]) -> tuple[str, ...]:
    """The phases that lead to one, from the root of the tree, itself last."""
    path = [phase]
    while parents := [
        name
        for name, preset in known.items()
        if name not in path and any(o.next and o.next.split()[0] == path[0] for o in preset.phase.outcomes)
    ]:
        path.insert(0, parents[0])
    return tuple(path)


def _carried(overrides: Sequence[str]) -> list[str]:
    names = [override.partition("=")[0].lstrip("+~").split(".")[0] for override in overrides]
    return [override for override, name in zip(overrides, names, strict=True) if name in _CARRIED]
