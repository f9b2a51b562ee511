"""Safetensors files written piece by piece, and checked afterwards; nothing here imports mlx.

Names, shapes and types of a model's tensors are known before any of them is computed. So the header of
a file can be written first, and every piece of a tensor goes straight to its place in the file: no more
than a piece is ever held in memory, whatever the size of the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from punie.util.errors import PunieError
from punie.util.files import write_json
from punie.util.jsonl import excerpt
from punie.util.plain import parse_json

BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
"""Size of an element, by the format's name of its type."""
_HEADER_LIMIT = 100_000_000
"""The format's own bound on a header; bytes."""
_LARGEST = 1 << 63
"""Above every extent and offset; without it a product of a few numbers could take minutes."""
_READ = 1 << 22


@dataclass(frozen=True)
class Tensor:
    """A tensor that is to be written."""

    name: str
    dtype: str
    """A key of ``BYTES``."""
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in a file."""
        return math.prod(self.shape) * BYTES[self.dtype]


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself."""

    tensors: dict[str, dict[str, Any]]
    """By name: ``dtype``, ``shape``, ``data_offsets``."""
    start: int
    """Where the first tensor begins in the file; bytes."""


def read_header(path: Path) -> Header:
    """The header of a safetensors file, and the proof that the file is as long as it says.

    Raises:
        PunieError: The header is damaged, or the file is shorter or longer.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, _HEADER_LIMIT):
                raise ValueError("the header is longer than the file")
            tensors = parse_json(stream.read(length))
        if not isinstance(tensors, dict):
            raise ValueError("the header is not a JSON object")
        tensors.pop("__metadata__", None)
        for name, entry in tensors.items():
            if not _is_entry(entry):
                raise ValueError(f"the header says of {excerpt(name)}: {excerpt(entry, 200)}")
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"{size} bytes instead of {8 + length + end}")
    except (struct.error, ValueError) as error:
        raise PunieError(
            "A weight file is truncated or damaged.",
            where=path,
            found=error,
            next_step="fetch or copy the model again",
        ) from None
    return Header(tensors, 8 + length)


def _is_entry(entry: object) -> bool:
    """Whether a header's entry is one of a tensor, with as many bytes as its shape takes."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]}:
            extents = [each for each in shape if type(each) is int and 0 <= each < _LARGEST]
            whole = len(extents) == len(shape) and 0 <= start <= end < _LARGEST
            return whole and (dtype not in BYTES or math.prod(extents) * BYTES[dtype] == end - start)
    return False


def split(tensors: Sequence[Tensor], limit: int) -> list[list[Tensor]]:
    """Distribute tensors over files, in order.

    Args:
        tensors: All of them.
        limit: Most bytes to a file; a tensor that is larger by itself gets a file of its own.
    """
    files: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        if not files or size + tensor.nbytes > limit:
            files.append([])
            size = 0
        files[-1].append(tensor)
        size += tensor.nbytes
    return files


@dataclass
class _Place:
    """Where a tensor goes, and how much of it is there."""

    file: str
    start: int
    end: int
    written: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class Writer:
    """Writes a model's tensors into a folder, each tensor's bytes in order, tensors in any order.

    Args:
        folder: Where the files go.
        tensors: All that will be written.
        limit: Most bytes of tensors to a file.
    """

    def __init__(self, folder: Path, tensors: Sequence[Tensor], limit: int) -> None:
        self.folder = folder
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self._places: dict[str, _Place] = {}
        self._headers: dict[str, bytes] = {}
        self._left: dict[str, int] = {}
        self._open: dict[str, int] = {}
        files = split(tensors, limit)
        for number, inside in enumerate(files, 1):
            file = "model" + (f"-{number:05d}-of-{len(files):05d}" if len(files) > 1 else "") + ".safetensors"
            self._plan(file, inside)

    @property
    def total_bytes(self) -> int:
        """Of all files, headers included."""
        return sum(len(header) for header in self._headers.values()) + sum(
            tensor.nbytes for tensor in self.tensors.values()
        )

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()

    def write(self, name: str, piece: memoryview) -> None:
        """Append a piece to a tensor; when a file is complete it is closed.

        Raises:
            ValueError: The tensor has more bytes than was said.
            OSError: The disk is full or cannot be written.
        """
        place, data = self._places[name], piece.cast("B")
        position = place.start + place.written
        if position + data.nbytes > place.end:
            raise ValueError(f"{name} has more bytes than was said")
        handle = self._open.get(place.file)
        if handle is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            handle = self._open[place.file] = os.open(self.folder / place.file, flags, 0o644)
            _put(handle, memoryview(self._headers[place.file]), 0)
        _put(handle, data, position)
        place.digest.update(data)
        place.written += data.nbytes
        self._left[place.file] -= data.nbytes
        if not self._left[place.file]:
            os.close(self._open.pop(place.file))

    def write_index(self, parameters: int) -> None:
        """Write model.safetensors.index.json, as mlx-lm does."""
        total = sum(tensor.nbytes for tensor in self.tensors.values())
        write_json(
            self.folder / "model.safetensors.index.json",
            {
                "metadata": {"total_size": total, "total_parameters": parameters},
                "weight_map": {name: self._places[name].file for name in sorted(self.tensors)},
            },
        )

    def verify(self) -> None:
        """Read every file again: names, types, shapes, and the digest of each tensor's bytes.

        Raises:
            PunieError: What is on the disk is not what was written.
        """
        for file in self._headers:
            path = self.folder / file
            header = read_header(path)
            expected = [tensor for tensor in self.tensors.values() if self._places[tensor.name].file == file]
            if header.tensors.keys() != {tensor.name for tensor in expected}:
                raise _unlike(path, "other tensors than were written")
            with path.open("rb") as stream:
                for tensor in expected:
                    entry = header.tensors[tensor.name]
                    if (entry["dtype"], tuple(entry["shape"])) != (tensor.dtype, tensor.shape):
                        raise _unlike(path, f"{tensor.name} is {entry['dtype']} {entry['shape']}")
                    start, end = entry["data_offsets"]
                    stream.seek(header.start + start)
                    digest, left = hashlib.sha256(), end - start
                    while left and (block := stream.read(min(left, _READ))):
                        digest.update(block)
                        left -= len(block)
                    if left or digest.digest() != self._places[tensor.name].digest.digest():
                        raise _unlike(path, f"{tensor.name} has other bytes than were written")

    def _plan(self, file: str, tensors: Sequence[Tensor]) -> None:
        header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
        position = 0
        for tensor in tensors:
            offsets = [position, position := position + tensor.nbytes]
            header[tensor.name] = {
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "data_offsets": offsets,
            }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # the data is aligned to eight bytes
        self._headers[file] = struct.pack("<Q", len(text)) + text
        self._left[file] = position
        for tensor in tensors:
            start, end = (len(self._headers[file]) + edge for edge in header[tensor.name]["data_offsets"])
            self._places[tensor.name] = _Place(file, start, end)


def _put(handle: int, data: memoryview, position: int) -> None:
    while data:
        count = os.pwrite(handle, data, position)
        data, position = data[count:], position + count


def _unlike(path: Path, found: str) -> PunieError:
    return PunieError(
        "A weight file is not what was written into it.",
        where=path,
        found=found,
        next_step="check the disk (its log, its free space), then run again",
    )
