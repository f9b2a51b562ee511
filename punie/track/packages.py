"""Which trackers a config chooses, and whether their packages are installed: what a plan asks, so that this
imports no tracker that is not chosen.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pkgutil import resolve_name

from punie.config.schema import TrackConfig
from punie.train.callbacks import CALLBACKS
from punie.util.errors import Problems, PunieError


def chosen(options: TrackConfig) -> list[str]:
    """The trackers of a config, by name."""
    return [name for name, on in options.trackers.items() if on]


def missing(names: list[str]) -> Iterator[PunieError]:
    """The trackers whose package is not installed, each with the command that installs it."""
    for name in names:
        package = resolve_name(CALLBACKS[name]).package
        if package is not None and not _is_installed(package):
            yield PunieError(
                f"The tracker {name} is not installed.",
                where=f"track={name}",
                found=f"no package {package}",
                next_step=f"pip install 'punie[{package}]', or track=none",
            )


def require(options: TrackConfig) -> None:
    """Refuse trackers whose package is not installed.

    Raises:
        Problems: All of them.
    """
    if found := [*missing(chosen(options))]:
        raise Problems("The trackers cannot be used:", found)


def _is_installed(package: str) -> bool:
    """Whether a package can be imported; a folder that a tracker writes may have the name of its package."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None
