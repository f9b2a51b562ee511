"""The fields of the schema as data: key, type, limits and description."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from punie.config.schema import Config

LIMITS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": (">=", operator.ge), "gt": (">", operator.gt), "le": ("<=", operator.le),
}  # fmt: skip
"""Signs and comparisons of a field's limits."""
_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


@dataclass(frozen=True)
class Known:
    """One field of the schema."""

    key: str
    """Dotted name, such as ``lora.rank``."""
    hint: Any
    """Its type."""
    about: Mapping[str, Any]
    """What ``option`` recorded: doc, limits, choices, neutral, omit_if."""
    default: Any = None
    """``MISSING`` where the config must supply the value."""

    @property
    def inner(self) -> type | None:
        """The dataclass within the type (itself, Optional, list of), or None."""
        return next((part for part in _parts(self.hint) if dataclasses.is_dataclass(part)), None)

    @property
    def listed(self) -> bool:
        """Whether the value is a list."""
        return any(typing.get_origin(part) is list for part in _parts(self.hint))

    def describe(self) -> str:
        """The values it takes and what it means, in a line."""
        return f"{self.takes()}: {self.about.get('doc', '')}"

    def takes(self) -> str:
        """The values it takes: type or choices, and limits."""
        words = _type_name(self.hint)
        if choices := self.about.get("choices"):
            words = "one of " + ", ".join("null" if each is None else str(each) for each in choices)
        limits = [f"{LIMITS[name][0]} {bound:g}" for name, bound in self.limits()]
        if self.listed and (choices or limits):
            words = f"a list, each {words}" if choices else "a list, each"
        if choices and typing.get_origin(self.hint) is dict:
            words = f"a mapping, each key {words}"
        return " ".join([words, *limits])

    def allows(self, value: object) -> bool:
        """Whether the value, each one of a list, or each key, is finite, in the limits, among the choices."""
        choices = self.about.get("choices")
        if isinstance(value, list) or (choices and isinstance(value, Mapping)):
            return all(map(self.allows, value))
        if choices:
            return value in choices
        return value is None or (
            _finite(value) and all(LIMITS[name][1](value, bound) for name, bound in self.limits())
        )

    def limits(self) -> list[tuple[str, float]]:
        """Its limits: ge, gt or le, each with a number."""
        return [(name, self.about[name]) for name in LIMITS if self.about.get(name) is not None]


@functools.cache
def own_fields(cls: Any) -> Mapping[str, Known]:
    """The fields of one dataclass of the schema, by name."""
    hints = typing.get_type_hints(cls)
    return {
        field.name: Known(
            field.name,
            hints[field.name],
            field.metadata,
            field.default if field.default_factory is dataclasses.MISSING else field.default_factory(),
        )
        for field in dataclasses.fields(cls)
    }


def schema_fields(cls: type = Config, prefix: str = "") -> Iterator[Known]:
    """Every leaf field of the schema, in order."""
    for name, known in own_fields(cls).items():
        if known.inner is None:
            yield dataclasses.replace(known, key=prefix + name)
        else:
            yield from schema_fields(known.inner, f"{prefix}{name}.")


def find_field(key: str) -> Known | None:
    """The group or leaf with a dotted key; list indices are skipped; None if there is no such field."""
    owner: type | None = Config
    found: Known | None = None
    for part in (part.split("[")[0] for part in key.split(".") if part and not part.isdigit()):
        found = own_fields(owner).get(part) if owner else None
        if found is None:
            return None
        owner = found.inner
    return found and dataclasses.replace(found, key=key)


def did_you_mean(name: str, *options: Mapping[str, str] | list[str]) -> str | None:
    """A question that names the closest option, from the first collection that has a close one.

    A mapping gives the words for each option. A name with another number means something else.
    """
    numbers = re.findall(r"\d+", name)
    for each in options:
        same = [option for option in each if re.findall(r"\d+", option) == numbers]
        if close := difflib.get_close_matches(name, same, n=1):
            return f"did you mean {each[close[0]] if isinstance(each, Mapping) else close[0]}?"
    return None


def _parts(hint: Any) -> Iterator[Any]:
    """A type, and the types in it."""
    yield hint
    for inner in typing.get_args(hint):
        yield from _parts(inner)


def _finite(value: object) -> bool:
    """Whether no number in a value, however deep, is infinite or NaN."""
    if isinstance(value, float):
        return math.isfinite(value)
    inner = value.values() if isinstance(value, Mapping) else value
    return all(map(_finite, inner)) if isinstance(inner, Iterable) and not isinstance(value, str) else True


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [_type_name(arg) for arg in typing.get_args(hint) if arg is not type(None)]
        return " or ".join([*inner, "null"])
    return _NAMES.get(hint, "a list" if typing.get_origin(hint) is list else "a mapping")
