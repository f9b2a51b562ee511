"""The config: its schema, composition by Hydra, and the strict check of what was composed."""

from punie.config import compat
from punie.config.check import resolve
from punie.config.schema import Config

__all__ = ["Config", "resolve"]

compat.confine()  # here, so that no config is read without it
