"""Digests and keys: the inputs of an artifact in one hash, without reading gigabytes twice.

A key is the sha256 of canonical JSON (sorted keys, no spaces, UTF-8) over a tagged object, so that two
objects of different kinds never have the same key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from punie.util.files import write_json

SCHEMA = "punie/1"
SHORT = 12
"""Characters of a key that are shown."""
_REMEMBER_FROM = 32 * 2**20
"""Size in bytes from which digests are remembered."""
_SETTLED = 2.0
"""Seconds after a change during which another change may not alter the timestamp."""
_BLOB = re.compile(r"[0-9a-f]{64}")


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


def content_digests(files: Iterable[Path]) -> dict[str, str]:
    """File name to sha256 of its bytes, for files of one folder.

    A file in the Hugging Face cache of this machine links to a blob named by its sha256, which is trusted.
    Any other large file is hashed once, and its digest is remembered by path, size, inode and time.

    Raises:
        OSError: A file cannot be read.
    """
    with memory() as known:
        return {path.name: _digest(path, known) for path in sorted(files)}


@contextlib.contextmanager
def memory() -> Generator[dict[str, str]]:
    """Digests that took long to find, by what they are of; those that the block adds are remembered."""
    known = _remembered()
    before = len(known)
    yield known
    if len(known) > before:
        with contextlib.suppress(OSError):  # losing them costs time only
            _memory().parent.mkdir(parents=True, exist_ok=True)
            write_json(_memory(), known)


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


def user_cache() -> Path:
    """The folder in which punie keeps what any project of the user can use again."""
    return Path(platformdirs.user_cache_dir("punie"))


def _memory() -> Path:
    """Where digests of large files and of sources are kept, in the user's cache folder."""
    return user_cache() / "digests.json"


def _remembered() -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        loaded = json.loads(_memory().read_text("utf-8"))
        return {path: digest for path, digest in loaded.items() if isinstance(digest, str)}
    return {}
