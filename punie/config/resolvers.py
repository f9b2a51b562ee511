"""What an interpolation may read: the config itself, and of the environment nothing but the run's id."""

from __future__ import annotations

import os

from omegaconf import OmegaConf

RUN_ID = "PUNIE_RUN_ID"
"""The environment variable that names a run; see ``compose.prepare``."""


def confine() -> None:
    """Put a resolver in place of OmegaConf's ``oc.env``, which reads any variable.

    What a config says is written into the run's files, and a config may come from elsewhere: a token of the
    user's must not get into the one by way of the other.
    """
    OmegaConf.register_new_resolver("oc.env", _environment, replace=True)


def _environment(name: str, *_default: object) -> str:
    if name != RUN_ID:
        raise ValueError(f"a config cannot read the environment variable {name}; let the shell put it in")
    return os.environ[name]
