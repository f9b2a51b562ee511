"""The phases as presets, read without composing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from omegaconf import OmegaConf

from punie.config.decisions import PhaseConfig
from punie.util.paths import resource

CARRIED = ("--config-dir=", "--config-name=", "hydra.searchpath=")
"""How the arguments begin that say where presets are: every command that repeats a run needs them."""


@dataclass(frozen=True)
class Preset:
    """One file of conf/phase/."""

    phase: PhaseConfig
    groups: Mapping[str, str]
    """The option chosen in each group, such as ``lora: reference``."""
    axes: Mapping[str, str]
    """Values of each swept field, as on a command line; empty if the phase is one run."""

    @property
    def command(self) -> str:
        """The command line that runs it."""
        return f"python -m punie {'-m ' if self.phase.sweep else ''}+phase={self.phase.id}"


def presets() -> dict[str, Preset]:
    """Every phase by its id, in order."""
    return {path.stem: _preset(path) for path in sorted((resource("conf") / "phase").glob("*.yaml"))}


def _preset(path: Path) -> Preset:
    raw = OmegaConf.load(path)
    phase = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(PhaseConfig), raw.phase))
    groups = [next(iter(entry.items())) for entry in raw.defaults]
    return Preset(
        phase=cast(PhaseConfig, phase),
        groups={str(name).removeprefix("override /"): str(option) for name, option in groups},
        axes={str(k): str(v) for k, v in (OmegaConf.select(raw, "hydra.sweeper.params") or {}).items()},
    )
