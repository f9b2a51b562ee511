"""Waves: who builds, and who waits for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from punie.sweep.plan import waves


def test_the_first_wave_trains_each_seed_once() -> None:
    """Two seeds at three temperatures: one job of each seed first, then the other four."""
    missing = {n: {f"train{n // 3}", f"quantize{n // 3}", f"evaluate{n}"} for n in range(6)}
    assert waves(missing) == [[0, 3], [1, 2, 4, 5]]


def test_a_second_quantization_of_a_training_waits_for_it() -> None:
    """One training, two quantizations, two temperatures: training, then the other model, then the rest."""
    missing = {n: {"train", f"quantize{n // 2}", f"evaluate{n}"} for n in range(4)}
    assert waves(missing) == [[0], [1, 2], [3]]


def test_jobs_that_build_nothing_start_with_the_last_wave() -> None:
    """What the store has already needs no wave of its own."""
    assert waves({0: set(), 1: {"a"}, 2: set()}) == [[1, 0, 2]]
    assert waves({0: set(), 1: set()}) == [[0, 1]]
    assert waves({}) == []


@given(st.dictionaries(st.integers(0, 30), st.sets(st.sampled_from("abcdef")), max_size=12))
def test_no_two_jobs_of_a_wave_build_the_same(missing: dict[int, set[str]]) -> None:
    """Every job starts exactly once, and within a wave no stage is built twice."""
    found = waves(missing)
    assert sorted(job for wave in found for job in wave) == sorted(missing)
    built: set[str] = set()
    for wave in found:
        fresh = [key for job in wave for key in missing[job] - built]
        assert len(fresh) == len(set(fresh))
        built |= set(fresh)
