"""Digests of input files, without reading gigabytes twice."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from punie.store.keys import file_digest
from punie.util.files import write_json

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
    known = _remembered()
    before = len(known)
    found = {path.name: _digest(path, known) for path in sorted(files)}
    if len(known) > before:
        with contextlib.suppress(OSError):  # losing them costs time only
            _memory().parent.mkdir(parents=True, exist_ok=True)
            write_json(_memory(), known)
    return found


def _digest(path: Path, known: dict[str, str]) -> str:
    real = path.resolve()
    if path.is_symlink() and _BLOB.fullmatch(real.name) and _is_of_hub(real):
        return real.name
    stat = real.stat()
    if stat.st_size < _REMEMBER_FROM or time.time() - stat.st_mtime < _SETTLED:
        return file_digest(real)
    tag = f"{real}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
    if tag not in known:
        known[tag] = file_digest(real)
    return known[tag]


def _is_of_hub(real: Path) -> bool:
    """Whether a file is in the cache of the hub's client; a similar folder elsewhere is not trusted."""
    from huggingface_hub import constants

    return real.parent.name == "blobs" and real.is_relative_to(Path(constants.HF_HUB_CACHE).resolve())


def _memory() -> Path:
    """Where digests of large files are kept, in the user's cache folder."""
    return Path(platformdirs.user_cache_dir("punie")) / "digests.json"


def _remembered() -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        loaded = json.loads(_memory().read_text("utf-8"))
        return {path: digest for path, digest in loaded.items() if isinstance(digest, str)}
    return {}
