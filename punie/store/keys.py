"""Digests and keys: the inputs of an artifact in one hash.

A key is the sha256 of canonical JSON (sorted keys, no spaces, UTF-8) over a tagged object, so that two
objects of different kinds never have the same key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA = "punie/1"
SHORT = 12
"""Characters of a key that are shown."""


def canonical_json(value: object) -> bytes:
    """The one byte string for a JSON value.

    Raises:
        ValueError: A float is not finite.
        TypeError: It contains a value that JSON does not have.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(tag: str, value: object) -> str:
    """sha256, as 64 hex digits, over the tag and the value."""
    return hashlib.sha256(canonical_json([SCHEMA, tag, value])).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, as 64 hex digits.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def artifact_key(material: Mapping[str, Any]) -> str:
    """The key of the artifact made from this material (see ``punie.run.pipeline``)."""
    return digest("artifact", material)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The names at which two nested mappings differ, sorted, with the old and the new value (None: absent).

    Names of nested fields are joined by a slash; a group that one of the two lacks is one difference.
    """
    found: list[tuple[str, Any, Any]] = []
    for name in sorted(old.keys() | new.keys(), key=str):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += [(f"{name}/{rest}", was, is_) for rest, was, is_ in differences(before, after)]
        elif before != after:
            found.append((str(name), before, after))
    return found
