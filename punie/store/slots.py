"""Limits how many processes compute on one device at a time: a semaphore of OS file locks.

Each of ``count`` slots is a lock file beside the store's own; it is released when its process ends. Slots are
per machine, as a device is: the file names contain the host's name.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Generator

from filelock import FileLock, Timeout

from punie.store.artifacts import Store

_EVERY = 0.2
"""Seconds between attempts to get a slot."""


@contextlib.contextmanager
def slot(store: Store, count: int | None) -> Generator[float]:
    """Hold one of ``count`` slots while the block runs; None is no limit.

    Yields:
        Seconds waited for it.
    """
    if count is None:
        yield 0.0
        return
    with store.writing():
        folder = store.locks
    slots = [FileLock(folder / f"device-{socket.gethostname()}-{n}.lock", timeout=0) for n in range(count)]
    clock = time.monotonic()
    while (held := next(filter(_take, slots), None)) is None:
        time.sleep(_EVERY)
    try:
        yield time.monotonic() - clock
    finally:
        held.release()


def _take(lock: FileLock) -> bool:
    try:
        lock.acquire()
    except Timeout:
        return False
    return True
