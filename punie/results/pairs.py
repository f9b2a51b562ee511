"""Two targets of one run compared on the same prompts, as results.json holds it."""

from __future__ import annotations

from collections.abc import Sequence

from punie.results.comparison import NothingToCompareError, compare
from punie.results.power import detectable
from punie.results.records import Pair, Sample


def pairs(before: str, after: str, a: Sequence[Sample], b: Sequence[Sample]) -> list[Pair]:
    """The comparison of two evaluations, one entry for each score.

    Args:
        before: Name of the first.
        after: Name of the second.
        a: The first one's samples.
        b: The second one's.

    Returns:
        An entry for each score; none where no prompt has a response in both.
    """
    try:
        found = compare(a, b)
    except NothingToCompareError:
        return []
    return [
        Pair(
            before=before,
            after=after,
            score=score,
            prompts=len(test.differences),
            left_out=len(found.left_out),
            difference=test.difference.estimate,
            interval=(test.difference.low, test.difference.high),
            p_value=test.p_value,
            exact=test.exact,
            mcnemar=test.mcnemar,
            up=[key for key, change in test.differences.items() if change > 0],
            down=[key for key, change in test.differences.items() if change < 0],
            detectable=detectable(test)[0],
        )
        for score, test in found.paired.items()
    ]
