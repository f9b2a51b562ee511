"""Digests of input files, without reading gigabytes twice."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from punie.store.keys import file_digest
from punie.util.files import write_json

log = logging.getLogger(__name__)

_REMEMBER_FROM = 32 * 2**20
"""Size in bytes from which digests are remembered."""
_SETTLED = 2.0
"""Seconds after a change during which another change may not alter the timestamp."""
_BLOB = re.compile(r"[0-9a-f]{64}")


def content_digests(files: Iterable[Path]) -> dict[str, str]:
    """File name to sha256 of its bytes, for files of one folder.

    A file in the Hugging Face cache of this machine links to a blob named by its sha256, which is trusted.
    Any other large file is hashed once, and its digest is remembered by path, size, inode and time.

    Raises:
        OSError: A file cannot be read.
    """
    memory = _Memory()
    found = {path.name: _digest(path, memory) for path in sorted(files)}
    memory.save()
    return found


def _digest(path: Path, memory: _Memory) -> str:
    real = path.resolve()
    if path.is_symlink() and _BLOB.fullmatch(real.name) and _is_of_hub(real):
        return real.name
    stat = real.stat()
    if stat.st_size < _REMEMBER_FROM or time.time() - stat.st_mtime < _SETTLED:
        return file_digest(real)
    tag = f"{real}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
    if tag not in memory.known:
        memory.known[tag] = file_digest(real)
        memory.changed = True
    return memory.known[tag]


def _is_of_hub(real: Path) -> bool:
    """Whether a file is in the cache of the hub's client; a similar folder elsewhere is not trusted."""
    from huggingface_hub import constants

    return real.parent.name == "blobs" and real.is_relative_to(Path(constants.HF_HUB_CACHE).resolve())


class _Memory:
    """Digests of large files, kept in the user's cache folder. Losing it costs time only."""

    def __init__(self) -> None:
        self.path = Path(platformdirs.user_cache_dir("punie")) / "digests.json"
        self.changed = False
        self.known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError):
            loaded = json.loads(self.path.read_text("utf-8"))
            self.known = {path: digest for path, digest in loaded.items() if isinstance(digest, str)}

    def save(self) -> None:
        if not self.changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self.known)
        except OSError as error:
            log.debug("digests are not remembered: %s", error)
