"""The artifacts that runs refer to: those, and all that they were made from, must not be deleted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from punie.store.artifacts import Artifact

_RECORDS = {"status.json", "results.json", "plan.json"}
"""Files of a run or a sweep that contain keys."""
MARKS = {".locks", ".building", "manifest.json"}
"""A folder with any of these belongs to a store. Its artifacts hold results too, but are not runs."""
_KEY = re.compile(rb'"([0-9a-f]{64})"')


def mentioned(folder: Path) -> set[str]:
    """Every key in the records of the runs and sweeps below a folder.

    Everything that looks like a key counts, so that a damaged record, or one of another version, counts too.

    Raises:
        OSError: A record cannot be read.
    """
    return {key.decode() for record in _records(folder) for key in _KEY.findall(record.read_bytes())}


def reachable(artifacts: Iterable[Artifact], keys: set[str]) -> set[str]:
    """These keys, and the keys of all artifacts upstream of theirs, a base model that is one among them."""
    upstream = {
        artifact.key: {*(artifact.manifest["material"].get("upstream") or {}).values()}
        | ({artifact.info["artifact"]} if "artifact" in artifact.info else set())
        for artifact in artifacts
    }
    found: set[str] = set()
    while keys:
        found |= keys
        keys = {key for each in keys for key in upstream.get(each, ())} - found
    return found


def _records(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=refuse):
        if MARKS & {*folders, *files}:
            folders.clear()
        else:
            yield from (Path(place, name) for name in _RECORDS.intersection(files))
