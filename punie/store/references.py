"""Which artifacts runs still speak of: those, and all that they were made from, are not to be deleted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from punie.store.artifacts import Artifact

_RECORDS = {"status.json", "results.json", "plan.json"}
"""What a run or a sweep keeps keys in."""
MARKS = {".locks", ".building", "manifest.json"}
"""Any of them makes a folder a store's. Its artifacts hold results, but are no runs, and keep nothing."""
_KEY = re.compile(rb'"([0-9a-f]{64})"')


def mentioned(folder: Path) -> set[str]:
    """Every key in the records of the runs and sweeps below a folder.

    Whatever looks like a key counts as one, so that a record of another version, or a damaged one, keeps
    what it names.

    Raises:
        OSError: A record is there and cannot be read.
    """
    return {key.decode() for record in _records(folder) for key in _KEY.findall(record.read_bytes())}


def reachable(artifacts: Iterable[Artifact], keys: set[str]) -> set[str]:
    """These keys, and those of all that their artifacts were made from."""
    upstream = {a.key: set((a.manifest["material"].get("upstream") or {}).values()) for a in artifacts}
    found: set[str] = set()
    todo = list(keys)
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo += upstream.get(key, ())
    return found


def _records(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        if MARKS & {*folders, *files}:
            folders.clear()
        else:
            yield from (Path(place, name) for name in _RECORDS.intersection(files))
