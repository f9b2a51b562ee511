"""JSON and YAML from elsewhere, with a limit on nesting."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100
"""Deepest nesting accepted; punie's own files are less than ten deep."""


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text.

    The limit is far below the parser's own, because code that later walks the value has less stack left.

    Raises:
        ValueError: It is not JSON, has a number of over 4,300 digits, or is nested too deeply.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise _too_deep() from None
    opening = ("[", "{") if isinstance(content, str) else (b"[", b"{")
    if sum(map(content.count, opening)) <= MAX_DEPTH:  # ty: ignore[invalid-argument-type]
        return value  # the common case
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
            if isinstance(child, dict | list)
        ]
        if not level:
            return value
    raise _too_deep()


def is_text(value: object) -> bool:
    """Whether every string in a JSON value can be encoded; a lone surrogate cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def require_plain_yaml(text: str) -> None:
    """Refuse YAML that would crash a loader; call this first.

    The loaders recurse in C, so that deep nesting ends the process, and a few lines of aliases can expand to
    more values than memory holds.

    Raises:
        ValueError: It is nested too deeply, or holds an alias.
        YAMLError: It is not YAML.
    """
    # Nesting needs these characters, or indentation that grows with the square of the depth.
    if sum(map(text.count, "[{-?")) <= MAX_DEPTH and len(text) < MAX_DEPTH**2 / 2 and "*" not in text:
        return
    import yaml

    depth = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it contains an alias (*), which punie never writes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {MAX_DEPTH} deep")
