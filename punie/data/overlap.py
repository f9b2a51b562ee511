"""Examples whose request equals, or nearly equals, that of other examples or of a suite's prompts."""

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
    """The request of an example or of a suite's item."""

    source: str
    """Name of the file or the suite."""
    place: str
    """The example, as file and line, or the suite's item."""
    text: str
    """The first user turn, normalized."""
    conversation: str | None = None
    """A digest of the whole example; None for a suite's item."""


@dataclass(frozen=True)
class Overlap:
    """An example, or a suite's item, and an earlier example that it repeats."""

    kind: str
    """One of ``KINDS``."""
    later: Request
    """The later example, or the item."""
    earlier: Request
    """The example that it repeats."""
    similarity: float
    """Estimated Jaccard index of the texts, from 0.0 to 1.0."""

    @property
    def relation(self) -> str:
        """The file, the two files, or the file and the suite."""
        return " – ".join(dict.fromkeys((self.earlier.source, self.later.source)))


def find_overlaps(requests: Sequence[Request]) -> list[Overlap]:
    """The strongest overlap of each request with each source of earlier ones, if there is any.

    Args:
        requests: Those of the examples in order, training data first, and then those of the suites' items,
            which are compared with the examples and not with each other.
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
    """Kind, later index, earlier index and similarity of equal requests."""
    first: dict[object, dict[str, int]] = defaultdict(dict)  # conversation or text → source → index
    for index, request in enumerate(requests):
        for kind, value in enumerate((request.conversation, request.text)):
            for earlier in first.get(value, {}).values():
                yield kind, index, earlier, 1.0
            if request.conversation is not None:
                first[value].setdefault(request.source, index)


def _similar(requests: Sequence[Request]) -> Iterator[tuple[int, int, int, float]]:
    """Kind, later index, earlier index and similarity of nearly equal requests."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        members[request.text].append(index)
    if not members:
        return
    indices = list(members.values())
    _, sources = np.unique([requests[each[0]].source for each in indices], return_inverse=True)
    similarities, twins = nearest(np.stack([signature(text) for text in members]), sources)
    for text, source in np.argwhere(similarities >= SIMILAR):
        earlier = indices[twins[text, source]][0]
        if requests[earlier].conversation is not None:
            yield from ((2, later, earlier, float(similarities[text, source])) for later in indices[text])
