"""What punie uses of Hydra and OmegaConf beyond their public interface.

Some of their errors carry what went wrong only in their text. ``tests/unit/config/test_compat.py`` fails when
one of these texts changes; punie's message then says less, and stays correct.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

FAULTS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
"""Errors of Hydra, OmegaConf and YAML: a faulty config raises them."""
RAISED = (
    *(*FAULTS, ArithmeticError, AssertionError, AttributeError),
    *(LookupError, RecursionError, TypeError, ValueError),
)
"""All that Hydra raises for a mistake of the user's. Caught around calls of Hydra only: a bug of punie's own
raises the same types."""
RUN_ID = "PUNIE_RUN_ID"
"""The environment variable that names a run; see ``compose.prepare``."""


def unknown_override(error: BaseException) -> str | None:
    """The key or group of an override that Hydra has no place for."""
    return _found(r"Could not override '([\w.@/-]+)'", error)


def failed_override(error: BaseException) -> str | None:
    """The override whose value OmegaConf refused."""
    return _found(r"[Ee]rror merging override (\S+)", error)


def confine() -> None:
    """Replace OmegaConf's ``oc.env``, which reads any environment variable; add ``punie.given``.

    A config may come from elsewhere and is written into the run's files, which must not disclose a token.
    ``${punie.given:A,B,C}`` is B where A is given, and C where it is null.
    """
    newer = "replace" in inspect.signature(OmegaConf.register_resolver).parameters  # 2.4
    register = OmegaConf.register_resolver if newer else OmegaConf.register_new_resolver
    register("oc.env", _environment, replace=True)  # ty: ignore[unknown-argument]
    register("punie.given", _given, replace=True)  # ty: ignore[unknown-argument]


def _given(value: object, then: object, otherwise: object) -> object:
    return otherwise if value is None else then


def _environment(name: str, *_default: object) -> str:
    if name != RUN_ID:
        raise ValueError(f"a config cannot read the environment variable {name}; set the value in the shell")
    return os.environ[name]


def refusal(error: InterpolationResolutionError) -> str | None:
    """What a resolver said when it raised ValueError.

    Raises:
        Exception: What else punie's own resolver raised, which is a bug of punie's.
    """
    cause = next((each for each in _causes(error) if not isinstance(each, OmegaConfBaseException)), None)
    if isinstance(cause, ValueError):
        return str(cause)
    frames = traceback.walk_tb(cause.__traceback__) if cause else ()
    if cause and any(frame.f_code is _environment.__code__ for frame, _ in frames):
        raise cause
    return None


def is_within_null(error: BaseException) -> bool:
    """Whether an override sets a field within a value that is null: OmegaConf 2.3 asserts that it is not, and
    2.4 says so."""
    return any(
        isinstance(each, AssertionError)
        or re.search(r"because '[\w.]+' is None|'NoneType' object has no attribute 'get'", str(each))
        for each in _causes(error)
    )


def version_base() -> dict[str, str]:
    """The argument that fixes Hydra's defaults: 1.3 warns where it is missing, 1.4 where it is given."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


def add_presets(folder: str) -> None:
    """Put a folder of presets before punie's own, as Hydra's ``--config-dir`` does; Hydra is initialized."""
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra

    instance = GlobalHydra.instance()
    assert instance.hydra is not None  # noqa: S101 - it is initialized
    kind, path = type(instance.hydra), instance.config_loader().get_search_path()
    anchor = SearchPathQuery(provider="schema")
    path.prepend(provider="command-line", path=f"file://{Path(folder).absolute()}", anchor=anchor)
    instance.clear()
    kind.create_main_hydra2(task_name="punie", config_search_path=path)


@functools.cache
def store_schema(name: str, node: type) -> None:
    """Make a schema known to Hydra, once in a process."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=name, node=node)


@functools.cache
def store_names(group: str, names: tuple[str, ...]) -> None:
    """Make presets known to Hydra that set a ``name`` and nothing else, once in a process."""
    from hydra.core.config_store import ConfigStore

    for name in names:
        ConfigStore.instance().store(group=group, name=name, node={"name": name})


@functools.cache
def store_nothing(group: str, name: str) -> None:
    """Make a preset known to Hydra that sets nothing, once in a process.

    Hydra cannot set a field of a value that is null; this makes it one that is not.
    """
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(group=group, name=name, node={})


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it was raised for."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _found(pattern: str, error: BaseException) -> str | None:
    match = re.match(pattern, str(error).strip())
    return match[1] if match else None
