"""The order of training is a function of lengths, batch size and seed, and of nothing else."""

from __future__ import annotations

import itertools

import numpy as np

from punie.train.order import STREAMS, mlx_seed, stream, training_batches, validation_batches

LENGTHS = [int(n) for n in np.random.default_rng(0).integers(20, 200, 103)]


def take(count: int, batch_size: int = 8, seed: int = 0) -> list[list[int]]:
    return list(itertools.islice(training_batches(LENGTHS, batch_size, seed), count))


def test_the_seed_alone_decides() -> None:
    """The same seed gives the same batches, another seed others, whatever numpy's global generator does."""
    first = take(40)
    np.random.seed(7)
    np.random.permutation(100)
    assert take(40) == first
    assert take(40, seed=1) != first


def test_every_row_is_trained_on_once_an_epoch() -> None:
    """No row is dropped, not even of a remainder, and none comes twice before all have come."""
    an_epoch = -(-len(LENGTHS) // 8)
    batches = take(3 * an_epoch)
    for epoch in range(3):
        rows = [row for batch in batches[epoch * an_epoch : (epoch + 1) * an_epoch] for row in batch]
        assert sorted(rows) == list(range(len(LENGTHS)))
    assert batches[:an_epoch] != batches[an_epoch : 2 * an_epoch]


def test_rows_of_like_length_share_a_batch() -> None:
    """Sorting by true length leaves under a tenth of the positions to padding; dealing at random far more."""

    def padding(batches: list[list[int]]) -> float:
        width = sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in batches)
        return 1 - sum(LENGTHS[row] for batch in batches for row in batch) / width

    shuffled = np.random.default_rng(0).permutation(len(LENGTHS))
    at_random = [[int(row) for row in shuffled[i : i + 8]] for i in range(0, len(LENGTHS), 8)]
    assert padding(take(13)) < 0.10
    assert padding(at_random) > 0.25


def test_validation_rows_are_fixed_and_counted() -> None:
    """Ten batches of four are forty distinct rows, the same each time; -1 is all of them."""
    chosen = validation_batches(LENGTHS, 4, 10, seed=0)
    assert chosen == validation_batches(LENGTHS, 4, 10, seed=0)
    assert len({row for batch in chosen for row in batch}) == 40
    everything = validation_batches(LENGTHS, 4, -1, seed=0)
    assert sorted(row for batch in everything for row in batch) == list(range(len(LENGTHS)))


def test_streams_are_independent() -> None:
    """Each purpose has draws of its own under one seed."""
    draws = {purpose: tuple(stream(0, purpose).integers(2**32, size=4)) for purpose in STREAMS}
    assert len(set(draws.values())) == len(STREAMS)
    assert mlx_seed(0, "adapter") != mlx_seed(1, "adapter")
