"""The container: metadata and tensors of a GGUF file, each checked against the file's length.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package knows the types of
tensors and dequantizes them; its reader believes what a file states.
"""

from __future__ import annotations

import array
import itertools
import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from punie.util.errors import PunieError
from punie.util.jsonl import excerpt

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "B", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""Codes of struct and array, by the format's number of a type of values."""
_MOST = {"metadata fields": 10_000, "tensors": 100_000, "strings": 1 << 21}
"""Limits on counts, well above those of any model."""
_DIMENSIONS = 4
_ALIGNMENT = 32
_LARGEST = 1 << 63
"""Limit on an extent."""

Metadata = Mapping[str, Any]
"""Fields by name: a number, a bool, a text, a list of texts or an array of numbers."""


class Refused(PunieError):
    """The file is not a GGUF that punie reads."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file."""

    name: str
    kind: Any
    """The type of its weights: a GGMLQuantizationType."""
    shape: tuple[int, ...]
    """The last extent changes fastest."""
    start: int
    """Where its bytes begin in the file."""
    size: int
    """Bytes."""

    @property
    def rows(self) -> int:
        """Number of rows of its last extent."""
        return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class File:
    """What a GGUF file holds."""

    path: Path
    metadata: Metadata
    tensors: Mapping[str, Tensor]


def library() -> ModuleType:
    """The `gguf` package.

    Raises:
        PunieError: It is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise PunieError(
            "Reading a GGUF file needs the gguf package.",
            next_step="pip install 'punie[gguf]'",
        ) from None
    return gguf


def is_gguf(path: Path) -> bool:
    """Whether a path is a file that is, or is called, a GGUF."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return path.suffix == ".gguf" or stream.read(len(MAGIC)) == MAGIC


def read(path: Path) -> File:
    """Read a file's header; of the tensors only where they are.

    Raises:
        Refused: It is no GGUF, is cut short, states what cannot be, or holds types that punie does not read.
        PunieError: The `gguf` package is not installed.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            cursor = _Cursor(content)
            metadata, count = _metadata(cursor)
            return File(path, metadata, _tensors(cursor, metadata, count))
    except _Damaged as error:
        raise Refused(
            "The GGUF file is damaged.", where=path, found=error, next_step="fetch or copy the file again"
        ) from None
    except (_Unsupported, ValueError, OSError) as error:  # an empty file cannot be mapped
        raise Refused("The file is not a GGUF that punie reads.", where=path, found=error) from None


class _Damaged(Exception):
    """The file does not hold what it states."""


class _Unsupported(Exception):
    """The file is, as far as one can tell, in order."""


class _Cursor:
    """Reads values one after another, and nothing beyond the end."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self.at = 0
        self.end = len(content)

    def take(self, count: int, what: str) -> bytes:
        if count > self.end - self.at:
            raise _Damaged(f"{what} of {count} bytes at {self.at}, in a file of {self.end}")
        self.at += count
        return self._content[self.at - count : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), "a number"))[0]

    def count(self, of: str) -> int:
        found = self.number("Q")
        if found > _MOST[of]:
            raise _Damaged(f"{found} {of} (at most {_MOST[of]})")
        return found

    def text(self) -> str:
        content = self.take(self.number("Q"), "a text")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise _Damaged(f"a text at {self.at - len(content)} that is not UTF-8") from None

    def value(self) -> Any:
        """A value after its type."""
        kind = self.number("I")
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise _Damaged(f"a value of type {kind}")
        found = self.number(_SCALARS[kind])
        return bool(found) if kind == _BOOL else found

    def _array(self) -> list[str] | array.array[Any]:
        kind = self.number("I")
        if kind == _STRING:
            return [self.text() for _ in range(self.count("strings"))]
        if kind not in _SCALARS:
            raise _Damaged(f"an array of type {kind}")
        code, count = _SCALARS[kind], self.number("Q")
        found = array.array(code)
        found.frombytes(self.take(count * struct.calcsize(f"<{code}"), "an array"))
        return found


def _metadata(cursor: _Cursor) -> tuple[dict[str, Any], int]:
    """The metadata, and the number of tensors."""
    if (magic := cursor.take(min(4, cursor.end), "the first bytes")) != MAGIC:
        raise _Unsupported(f"first bytes {magic!r} instead of {MAGIC!r}")
    if (version := cursor.number("I")) not in _VERSIONS:
        big = version and version & 0xFFFF == 0
        raise _Unsupported("a file for big-endian machines" if big else f"version {version}")
    tensors = cursor.count("tensors")
    metadata: dict[str, Any] = {}
    for _ in range(cursor.count("metadata fields")):
        name = cursor.text()
        if name in metadata:
            raise _Damaged(f"two fields {excerpt(name)}")
        metadata[name] = cursor.value()
    if (parts := metadata.get("split.count", 1)) != 1:
        raise _Unsupported(f"one of {excerpt(parts)} parts; llama-gguf-split --merge joins them")
    return metadata, tensors


def _tensors(cursor: _Cursor, metadata: Metadata, count: int) -> dict[str, Tensor]:
    gguf = library()
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= 1 << 16 or alignment & (alignment - 1):
        raise _Damaged(f"general.alignment {excerpt(alignment)}")
    stated = []
    for _ in range(count):
        name, dimensions = cursor.text(), cursor.number("I")
        if not 0 < dimensions <= _DIMENSIONS:
            raise _Damaged(f"tensor {excerpt(name)} of {dimensions} dimensions")
        shape = tuple(reversed([cursor.number("Q") for _ in range(dimensions)]))
        stated.append((name, shape, cursor.number("I"), cursor.number("Q")))
    start = cursor.at + -cursor.at % alignment
    found: dict[str, Tensor] = {}
    for name, shape, number, offset in stated:
        try:
            kind = gguf.GGMLQuantizationType(number)
        except ValueError:
            raise _Unsupported(f"tensor {excerpt(name)} of an unknown type, {number}") from None
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if name in found:
            raise _Damaged(f"two tensors {excerpt(name)}")
        if not all(0 < each < _LARGEST for each in shape) or shape[-1] % block:
            raise _Damaged(f"tensor {excerpt(name)} of shape {shape} and type {kind.name}")
        found[name] = each = Tensor(name, kind, shape, start + offset, math.prod(shape) // block * size)
        if offset % alignment or each.start + each.size > cursor.end:
            place = f"{each.size} bytes at {each.start}, in a file of {cursor.end}"
            raise _Damaged(f"tensor {excerpt(name)} of {place}")
    placed = sorted(found.values(), key=lambda each: each.start)
    for one, other in itertools.pairwise(placed):
        if one.start + one.size > other.start:
            raise _Damaged(f"tensors {excerpt(one.name)} and {excerpt(other.name)} in the same place")
    return found
