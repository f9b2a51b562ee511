"""How a field of the config is declared: its meaning, limits and default, and its part in cache keys."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from omegaconf import MISSING

_UNSET = object()


def option(
    doc: str,
    default: Any = MISSING,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    choices: tuple[object, ...] = (),
    neutral: bool = False,
    omit_if: object = _UNSET,
) -> Any:
    """A documented config field.

    Args:
        doc: One sentence, with the unit, for errors and the config reference.
        default: Without one, the config must supply the value.
        ge: Smallest value allowed.
        gt: The value must be above this.
        le: Largest value allowed.
        choices: The only values allowed.
        neutral: The field is not part of the cache key, because it does not change what a stage produces.
        omit_if: At this value the field is left out of the cache key, so that artifacts made before the
            field was added are still found.
    """
    metadata = {"doc": doc, "ge": ge, "gt": gt, "le": le, "choices": choices, "neutral": neutral}
    if omit_if is not _UNSET:
        metadata["omit_if"] = omit_if
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


neutral = functools.partial(option, neutral=True)
"""A field that is not part of the cache key."""
