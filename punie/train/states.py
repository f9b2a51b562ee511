"""What the frozen layers give for each example: read where it was kept, else computed.

Shape letters: B = sequences in a batch, T = tokens of the longest of them, O = tokens of the opening, which
all share, D = width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np

from punie.model.shards import Header, Tensor, Writer, read_header
from punie.train.batches import Row, width

VERSION = 1
"""Of what :func:`write` writes."""
Below = Callable[[Sequence[int]], mx.array]
"""Computes the state of a sequence after the frozen layers, (T, D)."""
_HELD = 1 << 28
"""Bytes of computed states that stay in memory: validation comes back to its examples."""
_FILE_BYTES = 1_000_000_000
_NAMES = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"}
_WORDS = {"F32": (np.uint32, mx.float32), "F16": (np.uint16, mx.float16), "BF16": (np.uint16, mx.bfloat16)}


@dataclass
class States:
    """The states of examples after the frozen layers."""

    below: Below
    held: frozenset[str] = frozenset()
    """Names of examples that come again, of those that are computed."""
    left: int = 0
    """Tokens of the opening, which ``below`` gives no state for."""
    _files: dict[str, tuple[Path, Header]] = field(default_factory=dict)
    _held: dict[str, mx.array] = field(default_factory=dict)

    def read(self, folder: Path) -> None:
        """Use what :func:`write` wrote into a folder."""
        for path in sorted(folder.glob("*.safetensors")):
            header = read_header(path)
            self._files |= dict.fromkeys(header.tensors, (path, header))

    def of(self, examples: Sequence[Row]) -> mx.array:
        """The states of a batch after the opening, (B, T - 1 - O, D), padded with 0.

        The last token predicts nothing.
        """
        rows = [self._one(example) for example in examples]
        length = width(examples) - 1 - self.left
        return mx.stack([mx.pad(row, [(0, length - len(row)), *[(0, 0)] * (row.ndim - 1)]) for row in rows])

    def _one(self, example: Row) -> mx.array:
        name = name_of(example)
        if name in self._files:
            return _read(*self._files[name], name)
        if name not in self._held:
            state = self.below(example.tokens[:-1])
            mx.eval(state)
            if name not in self.held or sum(a.nbytes for a in self._held.values()) + state.nbytes > _HELD:
                return state
            self._held[name] = state
        return self._held[name]


def name_of(example: Row) -> str:
    """The name of an example's state: a digest of its tokens."""
    return hashlib.sha256(np.asarray(example.tokens, np.int32).tobytes()).hexdigest()


def bytes_of(below: Below, examples: Iterable[Row]) -> int:
    """Bytes of the states of examples, equal ones once; computes nothing."""
    distinct = {name_of(example): example.tokens[:-1] for example in examples}
    tokens = next(iter(distinct.values()))
    one = below(tokens)
    return sum(len(each) - len(tokens) + len(one) for each in distinct.values()) * one[0].nbytes


def write(
    below: Below, examples: Iterable[Row], folder: Path, done: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Compute the states of examples, and write them; ``done`` is told how many are written.

    Returns:
        ``examples`` and ``bytes`` that were written.

    Raises:
        OSError: They cannot be written.
    """
    distinct = {name_of(example): example.tokens[:-1] for example in examples}
    first = below(next(iter(distinct.values())))
    left = len(next(iter(distinct.values()))) - len(first)
    tensors = [
        Tensor(name, _NAMES[first.dtype], (len(tokens) - left, *first.shape[1:]))
        for name, tokens in distinct.items()
    ]
    writer = Writer(folder, tensors, _FILE_BYTES)
    writer.create()
    for count, (name, tokens) in enumerate(distinct.items(), 1):
        state = mx.contiguous(below(tokens)).view(mx.uint8)
        writer.write(name, memoryview(cast(Any, state)))
        done(count)
    writer.finish(0)
    return {"examples": len(distinct), "bytes": writer.total_bytes}


def _read(path: Path, header: Header, name: str) -> mx.array:
    entry = header.tensors[name]
    word, dtype = _WORDS[entry["dtype"]]
    words = np.memmap(path, word, "r", header.start + entry["data_offsets"][0], tuple(entry["shape"]))
    return mx.array(words).view(dtype)
