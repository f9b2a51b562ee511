"""Safetensors files: their headers, what a model's headers say about its size, and writing piece by piece.

The header of a file is written first, from the names, shapes and types of its tensors. After that each piece
of a tensor goes straight to its position in the file, so memory never holds more than a piece. Does not
import mlx.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from punie.model.folders import read_config, weight_files
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
"""The format's own limit on a header; bytes."""
_NOT_FINITE = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F80_0000)}
"""A number's word, by type, and the bits that are all set in an infinity or a NaN, and in no other number."""
_AT_ONCE = 1 << 18
"""Numbers checked at a time: few enough for the processor's cache."""
_BLOCK = re.compile(r"(?:^|\.)layers\.(?P<number>\d+)\.(?P<path>.+)")
_LARGEST = 1 << 63
"""Limit on an extent or offset: the product of a few huge numbers could take minutes to compute."""


@dataclass(frozen=True)
class Tensor:
    """A tensor to write."""

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
    """The header of a safetensors file."""

    tensors: dict[str, dict[str, Any]]
    """By name: ``dtype``, ``shape``, ``data_offsets``."""
    start: int
    """Where the first tensor begins in the file; bytes."""


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file, and check that the file has the length it states.

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
                raise ValueError(f"the header's entry for {excerpt(name)} is {excerpt(entry, 200)}")
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
    """Whether a header's entry is well formed and has as many bytes as its shape takes."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]}:
            extents = [each for each in shape if type(each) is int and 0 <= each < _LARGEST]
            whole = len(extents) == len(shape) and 0 <= start <= end < _LARGEST
            return whole and (dtype not in BYTES or math.prod(extents) * BYTES[dtype] == end - start)
    return False


def parameters(folder: Path) -> int:
    """Count a model folder's parameters, a 4-bit tensor by its weights, not its words; reads no weights.

    Raises:
        PunieError: A weight file is damaged, or the config states no valid bits per weight.
    """
    return sum(math.prod(shape) for _, shape in _tensors(folder))


def sizes(folder: Path) -> dict[str, int]:
    """Parameters of each of a model folder's tensors, those of quantized ones counted as weights."""
    return {name: math.prod(shape) for name, shape in _tensors(folder)}


def not_finite(folder: Path) -> dict[str, int]:
    """How many numbers of each tensor of a model folder are infinite or NaN, where there are any."""
    import numpy as np

    found: dict[str, int] = {}
    for path in weight_files(folder):
        header = read_header(path)
        for name, tensor in header.tensors.items():
            if tensor["dtype"] not in _NOT_FINITE or not (count := math.prod(tensor["shape"])):
                continue
            word, mask = _NOT_FINITE[tensor["dtype"]]
            start = header.start + tensor["data_offsets"][0]
            words = np.memmap(path, word, "r", start, (count,))
            for first in range(0, count, _AT_ONCE):
                exponents = words[first : first + _AT_ONCE] & mask
                if exponents.max() == mask:
                    found[name] = found.get(name, 0) + int((exponents == mask).sum())
    return found


def adapter_bytes(
    folder: Path, *, fine_tune_type: str, num_layers: int, rank: int, keys: list[str] | None
) -> int:
    """Size of what is trained, float32: two matrices of the rank for each linear layer, or whole layers.

    Raises:
        PunieError: A weight file is damaged.
    """
    blocks: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
    for name, shape in _tensors(folder):
        if found := _BLOCK.search(name):
            blocks.setdefault(int(found["number"]), []).append((found["path"], shape))
    count = 0
    for number in sorted(blocks)[-num_layers if num_layers > 0 else 0 :]:
        for path, shape in blocks[number]:
            if fine_tune_type == "full":
                count += math.prod(shape)
            elif path.endswith(".weight") and len(shape) > 1 and (not keys or path[:-7] in keys):
                *experts, outputs, inputs = shape
                magnitudes = outputs if fine_tune_type == "dora" else 0
                count += math.prod(experts) * (rank * (inputs + outputs) + magnitudes)
    return 4 * count


@dataclass
class _Place:
    """Where a tensor ends in its file, and where its next piece goes; bytes."""

    path: Path
    end: int
    position: int


class Writer:
    """Writes a model's tensors into a folder: the pieces of a tensor in order, the tensors in any order.

    A file has at most ``limit`` bytes of tensors, or a single larger one.
    """

    def __init__(self, folder: Path, tensors: Sequence[Tensor], limit: int) -> None:
        self._folder = folder
        self._headers: dict[Path, bytes] = {}
        self._places: dict[str, _Place] = {}
        self._written: list[tuple[Path, int, int, bytes]] = []  # file, position, size and sha256 of a piece
        self._tensor_bytes = sum(tensor.nbytes for tensor in tensors)
        files: list[list[Tensor]] = [[]]
        for tensor in tensors:
            if files[-1] and sum(each.nbytes for each in files[-1]) + tensor.nbytes > limit:
                files.append([])
            files[-1].append(tensor)
        for number, inside in enumerate(files, 1):
            part = f"-{number:05d}-of-{len(files):05d}" if len(files) > 1 else ""
            path = folder / f"model{part}.safetensors"
            self._headers[path] = header = _header(inside)
            position = len(header)
            for tensor in inside:
                self._places[tensor.name] = _Place(path, position + tensor.nbytes, position)
                position += tensor.nbytes

    @property
    def total_bytes(self) -> int:
        """Size of all files, headers included."""
        return sum(map(len, self._headers.values())) + self._tensor_bytes

    def create(self) -> None:
        """Create the files, each with its header.

        Raises:
            OSError: A file exists, or the disk cannot be written.
        """
        for path, header in self._headers.items():
            path.touch(exist_ok=False)
            self._put(path, 0, memoryview(header))

    def write(self, name: str, piece: memoryview) -> None:
        """Append a piece to a tensor.

        Raises:
            ValueError: The tensor has more bytes than its header states.
            OSError: The disk is full or cannot be written.
        """
        place = self._places[name]
        if place.position + piece.nbytes > place.end:
            raise ValueError(f"{name} has more bytes than its header states")
        self._put(place.path, place.position, piece.cast("B"))
        place.position += piece.nbytes

    def _put(self, path: Path, position: int, content: memoryview) -> None:
        with path.open("r+b") as stream:
            stream.seek(position)
            stream.write(content)
        self._written.append((path, position, content.nbytes, hashlib.sha256(content).digest()))

    def finish(self, parameters: int) -> None:
        """Read everything again, once every tensor is complete; write model.safetensors.index.json.

        Raises:
            ValueError: A tensor has fewer bytes than its header states.
            PunieError: A file does not hold what was written into it.
        """
        if missing := [name for name, place in self._places.items() if place.position < place.end]:
            raise ValueError(f"{', '.join(missing[:3])} has fewer bytes than its header states")
        for path, position, size, digest in self._written:
            with path.open("rb") as stream:
                stream.seek(position)
                if hashlib.sha256(stream.read(size)).digest() != digest:
                    raise PunieError(
                        "A weight file is not what was written into it.",
                        where=path,
                        found=f"other bytes between {position} and {position + size}",
                        next_step="check the disk (its log, its free space), then run again",
                    )
        write_json(
            self._folder / "model.safetensors.index.json",
            {
                "metadata": {"total_size": self._tensor_bytes, "total_parameters": parameters},
                "weight_map": {name: self._places[name].path.name for name in sorted(self._places)},
            },
        )


def _header(tensors: Sequence[Tensor]) -> bytes:
    """The header of a file with these tensors, one after another."""
    entries: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    position = 0
    for tensor in tensors:
        offsets = [position, position := position + tensor.nbytes]
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data is aligned to eight bytes
    return struct.pack("<Q", len(text)) + text


def _tensors(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every weight, unpacked; the scales and biases of quantized ones are skipped."""
    quantization = read_config(folder).get("quantization") or {}
    default_bits = _bits(quantization, folder)
    seen: dict[str, Path] = {}
    for path in weight_files(folder):
        for name, tensor in read_header(path).tensors.items():
            if (other := seen.setdefault(name, path)) is not path:
                raise PunieError(
                    "Two weight files hold the same tensor.",
                    where=folder,
                    found=f"{excerpt(name, 200)} in {other.name} and in {path.name}",
                    next_step="fetch the model again; or, if one of them is left over, remove it",
                )
            if name.endswith((".scales", ".biases")):
                continue
            *outer, last = tensor["shape"] or [1]
            layer = quantization.get(name.rpartition(".")[0])
            bits = _bits(layer, folder, default_bits) if isinstance(layer, dict) else default_bits
            yield name, (*outer, last * 32 // bits if tensor["dtype"] == "U32" else last)


def _bits(quantization: object, folder: Path, default: int = 4) -> int:
    """Bits per weight."""
    bits = quantization.get("bits", default) if isinstance(quantization, dict) else None
    if type(bits) is not int or not 1 <= bits <= 32:
        raise PunieError(
            "The model's config.json states no valid bits for its quantized weights.",
            where=folder / "config.json",
            found=f"quantization {excerpt(quantization)}",
            expected='{"group_size": 64, "bits": 4}, and the same for layers that differ',
        )
    return bits
