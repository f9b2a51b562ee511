"""How many processes compute on one device at a time: a semaphore of OS file locks.

Each of ``count`` places is a lock file beside the store's own; whoever holds its lock computes. Like them it
vanishes with its process. It is per machine, since a device is: the files carry the host's name.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Generator

from filelock import FileLock, Timeout

from punie.store.artifacts import Store

_EVERY = 0.2
"""Seconds between looks for a free place."""


@contextlib.contextmanager
def slot(store: Store, count: int | None) -> Generator[float]:
    """Hold one of ``count`` places while the block runs.

    Args:
        store: The store beside whose locks the places are.
        count: How many there are; None for no limit.

    Yields:
        Seconds waited for it.
    """
    if count is None:
        yield 0.0
        return
    folder = store.root / ".locks"
    with store.writing():
        folder.mkdir(parents=True, exist_ok=True)
    places = [FileLock(folder / f"device-{socket.gethostname()}-{n}.lock", timeout=0) for n in range(count)]
    clock = time.monotonic()
    held = None
    while held is None:
        held = next((place for place in places if _take(place)), None)
        if held is None:
            time.sleep(_EVERY)
    try:
        yield time.monotonic() - clock
    finally:
        held.release()


def _take(place: FileLock) -> bool:
    try:
        place.acquire()
    except Timeout:
        return False
    return True
