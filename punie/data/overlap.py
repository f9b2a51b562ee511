"""Rows that say again, or nearly, what other rows or a suite's prompts say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from punie.data.similar import nearest, signature

SIMILAR = 0.8
"""Least similarity of two requests that are nearly the same, from 0.0 to 1.0."""
KINDS = ("same conversation", "same request", "similar request")
"""Kinds of overlap, the strongest first."""


@dataclass(frozen=True)
class Request:
    """What overlaps are found by."""

    source: str
    """Name of the file or the suite."""
    place: str
    """The row, as file and line, or the suite's item."""
    text: str
    """The first user turn, normalised."""
    conversation: int | None = None
    """A hash of the whole row; None for a suite's item."""


@dataclass(frozen=True)
class Overlap:
    """A row, or a suite's item, and an earlier row that it repeats."""

    kind: str
    """One of ``KINDS``."""
    later: Request
    """The row of the later file, or the item that the data gives away."""
    earlier: Request
    """The row it repeats."""
    similarity: float
    """Estimated share of common text, from 0.0 to 1.0."""

    @property
    def relation(self) -> str:
        """The file, or the two files or the file and the suite."""
        sources = (self.earlier.source, self.later.source)
        return " – ".join(dict.fromkeys(sources))


def find_overlaps(requests: Sequence[Request]) -> list[Overlap]:
    """For each request and each source of earlier ones, its strongest overlap, if there is any.

    Args:
        requests: Those of the rows in order, training data first, and then the suites' items, which are
            compared with the rows and not with each other.
    """
    best: dict[tuple[int, str], tuple[int, float, int]] = {}
    for kind, later, earlier, similarity in (*_exact(requests), *_similar(requests)):
        key = (later, requests[earlier].source)
        best[key] = min(best.get(key, (len(KINDS), 0.0, 0)), (kind, -similarity, earlier))
    return [
        Overlap(KINDS[kind], requests[later], requests[earlier], -negated)
        for (later, _), (kind, negated, earlier) in sorted(best.items())
    ]


def _exact(requests: Sequence[Request]) -> Iterator[tuple[int, int, int, float]]:
    """Kind, later and earlier index, and similarity of what is the same."""
    first: dict[object, dict[str, int]] = defaultdict(dict)  # conversation or text → source → index
    for index, request in enumerate(requests):
        for kind, value in enumerate((request.conversation, request.text)):
            for earlier in first.get(value, {}).values():
                yield kind, index, earlier, 1.0
            if request.conversation is not None:
                first[value].setdefault(request.source, index)


def _similar(requests: Sequence[Request]) -> Iterator[tuple[int, int, int, float]]:
    """Kind, later and earlier index, and similarity of what is nearly the same."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        members[request.text].append(index)
    if not members:
        return
    firsts = [indices[0] for indices in members.values()]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(each.source for each in requests))}
    sources = np.array([numbers[requests[first].source] for first in firsts])
    similarities, twins = nearest(np.stack([signature(text) for text in members]), sources)
    everyone = list(members.values())
    for text, source in np.argwhere(similarities >= SIMILAR):
        earlier = firsts[twins[text, source]]
        if requests[earlier].conversation is not None:
            yield from ((2, later, earlier, float(similarities[text, source])) for later in everyone[text])
