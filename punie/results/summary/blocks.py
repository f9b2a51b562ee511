"""YAML that many texts have most of in common: a block at the top of one that another had is read once.

Runs of one project share most of their config, and to read it is half of what a thousand of them take.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from typing import Any

import yaml

_TOP = re.compile(r"^(?=[a-z_]+:)", re.MULTILINE)
"""Where a block begins: a key at the margin."""
_OTHER = re.compile(r"^(?![ \n]|[a-z_]+:|\Z)", re.MULTILINE)
"""Anything else there."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
log = logging.getLogger(__name__)


def load(text: str) -> object:
    """A YAML text's value, as the safe loader has it. Not to be changed: texts share parts of theirs.

    Raises:
        YAMLError: It is not YAML.
    """
    if text and not _OTHER.search(text):
        ends = sorted({0, *(found.start() for found in _TOP.finditer(text)), len(text)})
        try:
            blocks = [_block(text[start:end]) for start, end in itertools.pairwise(ends)]
            return {key: value for block in blocks for key, value in block.items()}
        except (yaml.YAMLError, AttributeError) as error:  # a value goes on at the margin, for instance
            log.debug("read as a whole, for by its blocks it is no YAML: %s", error)
    return yaml.load(text, _LOADER)  # noqa: S506 - it is a safe loader


@functools.lru_cache(maxsize=20_000)
def _block(text: str) -> dict[str, Any]:
    return yaml.load(text, _LOADER)  # noqa: S506 - it is a safe loader
