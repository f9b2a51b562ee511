"""JSON and YAML from elsewhere: read no deeper than what is done with the values afterwards can follow."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100
"""Deepest nesting that is read; what punie writes is less than ten deep."""


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text.

    A parser goes as deep as the stack is free, and whoever writes, compares or shows the value later has
    less of it; so a bound far below comes first.

    Raises:
        ValueError: It is not JSON, has a number of over 4,300 digits, or is nested too deeply.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise _too_deep() from None
    opening = ("[", "{") if isinstance(content, str) else (b"[", b"{")
    if sum(map(content.count, opening)) <= MAX_DEPTH:  # ty: ignore[invalid-argument-type]
        return value  # as it is of most texts, which need no second look
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
    """Whether every text in a JSON value can be written again: half of a surrogate pair cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def require_plain_yaml(text: str) -> None:
    """Refuse YAML that a loader does not survive; to be called ahead of it.

    The loaders recurse in C, where a few ten thousand brackets end the process, and a few lines of aliases
    stand for more values than memory holds.

    Raises:
        ValueError: It is nested too deeply, or holds an alias.
        YAMLError: It is not YAML.
    """
    # Most texts need no second look: depth takes these characters, or a quadratic lot of indentation.
    if sum(map(text.count, "[{-?")) <= MAX_DEPTH and len(text) < MAX_DEPTH**2 / 2 and "*" not in text:
        return
    import yaml

    depth = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it holds an alias (*), which no value that punie writes does")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {MAX_DEPTH} deep")
