"""Numbers of prompts against published figures, Wilson's interval and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from punie.results.crossed import Design, crossed
from punie.results.power import (
    detectable,
    detectable_in_words,
    minimum_detectable_effect,
    needed,
    power,
    prompts_paired,
    prompts_to_exclude,
    smallest_difference,
    smallest_in_words,
)
from punie.results.statistics import mcnemar, paired, wilson


def test_prompts_for_a_threshold():
    """The interval of 82.4 % leaves out 80 % from 1,068 prompts on."""
    assert prompts_to_exclude(0.824, 0.8) == 1068
    assert wilson(0.824, 1068)[0] > 0.8 > wilson(0.824, 967)[0]


@given(st.floats(0.05, 0.95), st.floats(0.02, 0.4))
def test_prompts_are_the_fewest(rate, distance):
    """With the number of prompts given the interval is as promised, and with one fewer it is not."""
    threshold = rate - distance if rate > 0.5 else rate + distance
    count = prompts_to_exclude(rate, threshold)
    low, high = wilson(rate, count)
    assert not low < threshold - 1e-9 < threshold + 1e-9 < high
    if count > 1:
        low, high = wilson(rate, count - 1)
        assert low - 1e-9 <= threshold <= high + 1e-9


def test_paired_prompts():
    """As published, 2.4 points at 10 % discordance take about 1,360 prompts; 27 at 20 % show about 0.24."""
    assert prompts_paired(0.024, 0.1) == pytest.approx(1360, abs=5)
    assert minimum_detectable_effect(27, 0.2) == pytest.approx(0.24, abs=5e-3)


@given(st.integers(5, 5000), st.floats(0.01, 1.0))
def test_effect_and_prompts_are_inverse(prompts, discordance):
    """The effect that some prompts show takes those prompts, and more prompts show a smaller one."""
    effect = minimum_detectable_effect(prompts, discordance)
    assert prompts_paired(effect, discordance) in (prompts, prompts + 1)
    assert prompts_paired(-effect, discordance) in (prompts, prompts + 1)
    assert minimum_detectable_effect(prompts + 1, discordance) < effect


def test_power():
    """The exact test finds a difference of the smallest size that can be seen about 80 % of the time."""
    rng, prompts, discordance = np.random.default_rng(9), 400, 0.2
    gain = (discordance + minimum_detectable_effect(prompts, discordance)) / 2
    draws = rng.random((600, prompts))
    ups, downs = (draws < gain).sum(axis=1), ((draws >= gain) & (draws < discordance)).sum(axis=1)
    found = np.mean([mcnemar(int(u), int(d)) <= 0.05 for u, d in zip(ups, downs, strict=True)])
    assert 0.74 <= found <= 0.86


@pytest.mark.parametrize("seeds", [1, 3, 5])
@pytest.mark.parametrize("sides", [1, 2])
def test_power_over_prompts_and_seeds(seeds, sides):
    """The crossed test finds a difference of the smallest size that can be seen about 80 % of the time."""
    by_seed = 0.002 if seeds > 1 else 0.0
    design = Design(27, seeds, sides, by_prompt=0.01, by_seed=by_seed, rest=0.05)
    rng, smallest, found = np.random.default_rng(4), smallest_difference(design), 0
    assert smallest is not None
    for _ in range(400):
        made = [
            0.1 * rng.standard_normal((27, 1))
            + by_seed**0.5 * rng.standard_normal((1, seeds))
            + 0.05**0.5 * rng.standard_normal((27, seeds))
            for _ in range(sides)
        ]
        made[-1] += smallest
        test = crossed(*made)
        found += test is not None and test.p_value <= 0.05
    assert 0.74 <= found / 400 <= 0.86


def test_numbers_needed_over_prompts_and_seeds():
    """More prompts or seeds detect a smaller difference, but no prompts make up for seeds that vary more."""
    design = Design(27, 3, 2, by_prompt=0.01, by_seed=0.001, rest=0.05)
    for what, ample in (("prompts", 0.13), ("seeds", 0.1)):
        number = needed(design, ample, what)
        assert number is not None
        assert power(replace(design, **{what: number}), ample) >= 0.8
        assert power(replace(design, **{what: int(0.95 * number) - 1}), ample) < 0.81
    assert needed(design, 0.02, "prompts") is None
    assert smallest_difference(replace(design, prompts=5)) is None
    assert smallest_difference(replace(design, by_seed=1.0)) is None


def test_nothing_beyond_the_scale_is_detectable():
    """One prompt, or seeds that vary as much as the scale is long, detect no difference, not even 1.0."""
    assert detectable_in_words(1, 1, 1.0, 2.8).startswith(
        "Minimum detectable difference: none, not even 1.0 (1 prompt,"
    )
    assert "none, not even 1.0" in smallest_in_words(None, "27 prompts, 2 seeds")


def test_no_difference_needs_no_prompts():
    """A difference of 0 and a threshold at the rate are refused."""
    with pytest.raises(ValueError, match="difference of 0"):
        prompts_paired(0.0, 0.1)
    with pytest.raises(ValueError, match="the rate itself"):
        prompts_to_exclude(0.8, 0.8)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=40))
def test_what_stands_beside_a_comparison(changes):
    """Figures and words say the same, also where only the figures that results.json keeps are left."""
    a = {f"p{number}": [max(0.0, -change)] for number, change in enumerate(changes)}
    b = {f"p{number}": [max(0.0, change)] for number, change in enumerate(changes)}
    test = paired(a, b)
    smallest, number = detectable(test)
    changed = sum(map(bool, changes))
    words = detectable_in_words(len(changes), changed, test.difference.estimate, smallest)
    if not any(changes):
        assert (smallest, number) == (None, None)
        assert words == f"None of {len(changes)} prompts changed"
    else:
        effect = minimum_detectable_effect(len(changes), test.discordance)
        possible = effect <= 1 and len(changes) >= 6  # no sign-flip test of five prompts reaches 5 %
        assert smallest == (effect if possible else None)
        said = f"{effect:.2f}" if possible else "none, not even 1.0"
        assert f"Minimum detectable difference: {said} ({len(changes)} prompt" in words
        if possible:
            assert ("needs" in words) == (number is not None and number > len(changes))
