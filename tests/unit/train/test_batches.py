"""Tokenized examples: their file, and their order, a function of lengths, batch size and seed alone."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import numpy as np
import pytest

from punie.train.batches import (
    STREAMS,
    Row,
    load_rows,
    mlx_seed,
    save_rows,
    stream,
    training_batches,
    validation_batches,
)

ROWS = [
    Row("train.jsonl:1", [1, 2, 3], ((1, 3),)),
    Row("train.jsonl:4", [1, 2, 3, 4, 5, 6], ((1, 2), (4, 6))),
]
LENGTHS = [int(n) for n in np.random.default_rng(0).integers(20, 200, 103)]
EPOCH = -(-len(LENGTHS) // 8)


def take(count: int, seed: int = 0) -> list[list[int]]:
    return list(itertools.islice(training_batches(LENGTHS, 8, seed), count))


def test_examples_come_back(tmp_path: Path) -> None:
    """Names, tokens and spans are read as they were written."""
    save_rows(tmp_path / "rows.safetensors", ROWS)
    assert load_rows(tmp_path / "rows.safetensors", "train.jsonl") == ROWS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_is_an_error_of_the_system() -> None:
    """Examples that do not fit on the disk raise an OSError, as any other file does."""
    with pytest.raises(OSError, match="No space left") as caught:
        save_rows(Path("/dev/full"), ROWS)
    assert caught.value.errno == errno.ENOSPC


def test_the_seed_alone_decides() -> None:
    """The same seed gives the same batches, another seed others, whatever numpy's global generator does."""
    first = take(40)
    np.random.seed(7)
    np.random.permutation(100)
    assert take(40) == first
    assert take(40, seed=1) != first
    assert len({tuple(stream(0, each).integers(2**32, size=4)) for each in STREAMS}) == len(STREAMS)
    assert mlx_seed(0, "adapter") != mlx_seed(1, "adapter")


def test_every_example_is_trained_on_once_an_epoch() -> None:
    """None is dropped, not even of a remainder, and none comes twice before all have come; epochs differ."""
    batches = take(3 * EPOCH)
    for epoch in range(3):
        rows = [row for batch in batches[epoch * EPOCH : (epoch + 1) * EPOCH] for row in batch]
        assert sorted(rows) == list(range(len(LENGTHS)))
    assert batches[:EPOCH] != batches[EPOCH : 2 * EPOCH]


def test_examples_of_like_length_share_a_batch() -> None:
    """Sorting by length leaves under a tenth of the positions to padding."""
    width = sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in take(EPOCH))
    assert 1 - sum(LENGTHS) / width < 0.10


def test_validation_examples_are_fixed_and_counted() -> None:
    """Ten batches of four are forty distinct examples, the same each time; -1 is all of them."""
    chosen = validation_batches(LENGTHS, 4, 10, seed=0)
    assert chosen == validation_batches(LENGTHS, 4, 10, seed=0)
    assert len({row for batch in chosen for row in batch}) == 40
    everything = validation_batches(LENGTHS, 4, -1, seed=0)
    assert sorted(row for batch in everything for row in batch) == list(range(len(LENGTHS)))
