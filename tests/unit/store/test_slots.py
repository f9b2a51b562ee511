"""The places on a device."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from punie.store.artifacts import Store
from punie.store.slots import slot


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 2), (None, 4)])
def test_no_more_compute_than_there_are_places(tmp_path: Path, count: int | None, most: int) -> None:
    """Of four that want to compute, at most ``count`` do at any moment; without a limit all do."""
    store, guard, ready = Store(tmp_path), threading.Lock(), threading.Barrier(4)
    now, seen = 0, []

    def work() -> None:
        nonlocal now
        ready.wait()
        with slot(store, count):
            with guard:
                now += 1
                seen.append(now)
            time.sleep(0.3)
            with guard:
                now -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) == most


def test_a_place_is_free_again_after_an_error(tmp_path: Path) -> None:
    """Whoever fails in its place gives it back, and the next one does not wait."""
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="a bug"), slot(store, 1):
        raise ValueError("a bug")
    with slot(store, 1) as waited:
        assert waited < 0.2
