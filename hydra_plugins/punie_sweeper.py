"""punie's sweeper, as Hydra finds it. Hydra imports every plugin at start-up: this holds next to nothing."""

# No postponed annotations: Hydra runs this file before it is in sys.modules, where dataclasses would look.
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class SweeperConfig:
    """``hydra.sweeper``."""

    _target_: str = "hydra_plugins.punie_sweeper.PunieSweeper"
    params: dict[str, str] = field(default_factory=dict)
    """Axes of a preset: key to values, as on the command line."""
    resume: bool = False
    """Finish the sweep in ``hydra.sweep.dir``; what ``punie resume`` sets."""


ConfigStore.instance().store(group="hydra/sweeper", name="punie", node=SweeperConfig, provider="punie")


class PunieSweeper(Sweeper):
    """Hands over to ``punie.sweep.sweeper`` when there is something to sweep.

    Args:
        params: Axes of a preset.
        resume: Whether to finish a sweep that was begun.
    """

    def __init__(self, params: dict[str, str], resume: bool) -> None:
        self.params = params
        self.resume = resume

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives, and make the launcher that was chosen."""
        from hydra.core.plugins import Plugins

        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._given = config, hydra_context.config_loader, launcher

    def sweep(self, arguments: list[str]) -> Any:
        """Plan and run the sweep; see ``punie.sweep.sweeper.sweep``."""
        from punie.sweep.sweeper import sweep

        return sweep(
            *self._given,
            arguments,
            params={str(key): str(value) for key, value in self.params.items()},
            resume=self.resume,
        )
