"""Texts that are nearly the same, among many, without comparing each with each.

Two texts are as similar as the sets of their five-byte pieces: the Jaccard index, shared pieces by all
pieces. MinHash estimates it: under a random order of all pieces, two sets have the same least piece with
just that probability (A. Z. Broder, "On the resemblance and containment of documents", 1997). Only texts
that agree in one of several bands of such values are compared at all.

Shape letters: N = texts, K = values of a signature, B = bands of K // B values, P = pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PIECE = 5
"""Length of a piece, in bytes; it fits into 64 bits as it is."""
VALUES = 128
"""K: the standard error of a similarity of 0.8 is 0.035."""
BANDS = 32
"""B: a pair with similarity 0.8 meets in one of them except once in ten million times."""
NEIGHBOURS = 8
"""Texts that each text is compared with in one band, so that thousands of kin do not cost millions."""
MAX_TEXT = 4_000
"""The beginning of a text that is looked at, in bytes."""

# Odd multipliers, fixed, so that the same texts always give the same answer.
_MULTIPLIERS = np.random.default_rng(0).integers(1, 2**63, (VALUES, 1), dtype=np.uint64) * 2 + 1


def normal(text: str) -> str:
    """The text in lower case with single spaces: what counts as the same."""
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


def similar_pairs(signatures: NDArray[np.uint32], threshold: float) -> dict[tuple[int, int], float]:
    """Pairs of texts whose estimated similarity reaches the threshold.

    Args:
        signatures: One row a text, (N, K).
        threshold: Least similarity, from 0.0 to 1.0.

    Returns:
        Similarity by ``(a, b)`` with ``a < b``. Of a large family of kin, each text's nearest few.
    """
    found: dict[tuple[int, int], float] = {}
    # (N, B): a band's values as one number.
    weights = _MULTIPLIERS[: VALUES // BANDS, 0]
    keys = (signatures.reshape(len(signatures), BANDS, -1).astype(np.uint64) * weights).sum(axis=2)
    for band in range(BANDS):
        # Within a band's equals, those that agree in the next band as well stand together.
        order = np.lexsort((keys[:, (band + 1) % BANDS], keys[:, band]))
        for distance in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            left, right = order[:-distance], order[distance:]
            equal = keys[left, band] == keys[right, band]
            if not equal.any():
                break
            left, right = left[equal], right[equal]
            similarity = (signatures[left] == signatures[right]).mean(axis=1)  # (P,)
            for index in np.flatnonzero(similarity >= threshold):
                pair = sorted((int(left[index]), int(right[index])))
                found[pair[0], pair[1]] = float(similarity[index])
    return found
