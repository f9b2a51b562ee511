"""The order in which jobs start, so that no worker waits while another builds what both need."""

from __future__ import annotations

from collections.abc import Mapping, Set


def waves(missing: Mapping[int, Set[str]]) -> list[list[int]]:
    """Divide jobs into waves; the jobs of one wave build nothing in common.

    The first wave has one job for each distinct set of expensive stages that is missing; a later job finds
    what an earlier wave has built. Jobs that build nothing are in the last wave.

    Args:
        missing: For each job, the keys of the expensive stages that are not in the store.

    Returns:
        The jobs of each wave, in their own order.
    """
    found, built = [], set[str]()
    left, idle = [job for job in missing if missing[job]], [job for job in missing if not missing[job]]
    while left:
        wave, taken = [], set[str]()
        for job in left:
            wanted = missing[job] - built
            if wanted and not wanted & taken:
                wave.append(job)
                taken |= wanted
        wave = wave or left  # all that these need was built by the waves before
        found.append(wave)
        built |= taken
        left = [job for job in left if job not in wave]
    if idle:
        found = [*found[:-1], [*found[-1], *idle]] if found else [idle]
    return found
