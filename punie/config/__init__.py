"""The config: its schema, and the strict check of what was composed."""

from punie.config import resolvers
from punie.config.check import resolve
from punie.config.schema import SCHEMA_NAME, Config, register

__all__ = ["SCHEMA_NAME", "Config", "register", "resolve"]

resolvers.confine()  # here, so that whoever reads a config has done it
