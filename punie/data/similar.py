"""Near-duplicate texts among many, by MinHash.

The similarity of two texts is the Jaccard index of their sets of five-byte pieces: shared pieces by all
pieces. Under a random order of all pieces it is the probability that two sets have the same least piece
(A. Z. Broder, "On the resemblance and containment of documents", 1997). Only texts that agree in a band of
such values are compared.

Shape letters: N = texts, K = values of a signature, B = bands, S = sources of texts, P = pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PIECE = 5
"""Length of a piece, in bytes, at most 8."""
VALUES = 128
"""K: the standard error of a similarity of 0.8 is 0.035."""
BANDS = 16
"""B: a pair of similarity 0.8 agrees in none of them with a probability of (1 − 0.8⁴)¹⁶, 2 in 10,000."""
BAND = 4
"""Values in a band."""
NEIGHBOURS = 8
"""Texts that each text is compared with in one band: the time stays linear for thousands of similar texts."""
MAX_TEXT = 4_000
"""The beginning of a text that is read, in bytes."""

# Odd multipliers, fixed, so that the same texts always give the same result.
_MULTIPLIERS = np.random.default_rng(0).integers(1, 2**63, (VALUES, 1), dtype=np.uint64) * 2 + 1


def normal(text: str) -> str:
    """The text in lower case with single spaces, by which texts are compared."""
    return " ".join(text.casefold().split())


def signature(text: str) -> NDArray[np.uint32]:
    """MinHash values of a normalised text, (K,)."""
    content = text.encode("utf-8", "replace")[:MAX_TEXT].ljust(PIECE)
    read = np.frombuffer(content, np.uint8).astype(np.uint64)
    count = len(read) - PIECE + 1
    pieces = np.zeros(count, np.uint64)
    for offset in range(PIECE):
        pieces = (pieces << np.uint64(8)) | read[offset : offset + count]
    # The high half of a product with an odd number, modulo 2^64, is a random order of the pieces.
    return ((pieces * _MULTIPLIERS) >> np.uint64(32)).min(axis=1).astype(np.uint32)


def nearest(
    signatures: NDArray[np.uint32], sources: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each text and source, the most similar of the texts before it.

    Args:
        signatures: One row per text, (N, K).
        sources: The source of each text, as a number from 0, (N,).

    Returns:
        The estimated similarities, 0.0 where nothing is similar, and the indices of those texts, both (N, S).
    """
    shape = (len(signatures), int(sources.max(initial=-1)) + 1)
    similarities, indices = np.zeros(shape), np.zeros(shape, np.int64)
    bands = signatures[:, : BANDS * BAND].reshape(len(signatures), BANDS, BAND)
    keys = (bands.astype(np.uint64) * _MULTIPLIERS[:BAND, 0]).sum(axis=2)  # (N, B): a band as one number
    for band in range(BANDS):
        # Texts that agree in this band and in the next one are neighbours in this order.
        order = np.lexsort((keys[:, (band + 1) % BANDS], keys[:, band]))
        for distance in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            left, right = order[:-distance], order[distance:]
            agree = keys[left, band] == keys[right, band]
            for earlier, later in ((left, right), (right, left)):
                # No text occurs twice among the later ones, so each slot is written once.
                chosen = agree & (earlier < later)
                first, second = earlier[chosen], later[chosen]
                similarity = (signatures[first] == signatures[second]).mean(axis=1)  # (P,)
                slot = (second, sources[first])
                better = similarity > similarities[slot]
                slot = (slot[0][better], slot[1][better])
                similarities[slot], indices[slot] = similarity[better], first[better]
    return similarities, indices
