"""What punie uses of Hydra and OmegaConf beyond their public interface.

Some of their errors carry what went wrong only in their text. ``tests/unit/config/test_compat.py`` fails when
one of these texts changes; punie's message then says less, and stays correct.
"""

from __future__ import annotations

import re

from omegaconf.errors import OmegaConfBaseException


def unknown_override(error: BaseException) -> str | None:
    """The key or group of an override that Hydra has no place for."""
    return _found(r"Could not override '([\w.@/-]+)'", error)


def failed_override(error: BaseException) -> str | None:
    """The override whose value OmegaConf refused."""
    return _found(r"[Ee]rror merging override (\S+)", error)


def refusal(error: OmegaConfBaseException) -> str | None:
    """What a resolver said when it raised ValueError."""
    return _found(r"ValueError raised while resolving interpolation: (.+)", error)


def is_within_null(error: BaseException) -> bool:
    """Whether an override sets a field within a value that is null: OmegaConf only asserts that it is not."""
    return isinstance(error, AssertionError)


def _found(pattern: str, error: BaseException) -> str | None:
    match = re.match(pattern, str(error).strip())
    return match[1] if match else None
