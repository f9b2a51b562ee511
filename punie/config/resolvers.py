"""Limits what interpolations may read: the config, and the run's id from the environment."""

from __future__ import annotations

import os

from punie.config import compat

RUN_ID = "PUNIE_RUN_ID"
"""The environment variable that names a run; see ``compose.prepare``."""


def confine() -> None:
    """Replace OmegaConf's ``oc.env``, which reads any environment variable.

    A config may come from elsewhere and is written into the run's files, which must not disclose a token.
    """
    compat.register_resolver("oc.env", _environment)


def _environment(name: str, *_default: object) -> str:
    if name != RUN_ID:
        raise ValueError(f"a config cannot read the environment variable {name}; set the value in the shell")
    return os.environ[name]
