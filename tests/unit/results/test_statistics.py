"""The statistics against scipy, enumeration, published figures, and simulated data whose truth is known."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from punie.results.crossed import Crossed, crossed, mean_interval
from punie.results.statistics import (
    Interval,
    clustered_stderr,
    holm,
    mcnemar,
    paired,
    pass_hat,
    prediction_interval,
    seed_spread,
    wilson,
)

SCORES = st.sampled_from([0.0, 0.1, 0.35, 0.5, 1.0])
RUNS = st.lists(st.tuples(st.lists(SCORES, min_size=1, max_size=3), SCORES), min_size=1, max_size=30)


def table(rows, category="git"):
    """A table of one category from (prompts, seeds) rows of scores; None is a missing cell."""
    return {
        f"p{i}": (category, {s: [v] for s, v in enumerate(row) if v is not None})
        for i, row in enumerate(rows)
    }


def runs(*columns):
    """One run for each column of scores, all on the same prompts."""
    return [{f"p{i}": [value] for i, value in enumerate(column)} for column in columns]


# One run.


def test_wilson():
    """Wilson's interval has its published value for 82.4 % of 27, and stays within 0 and 1."""
    assert wilson(0.824, 27) == pytest.approx((0.643, 0.924), abs=5e-4)
    assert wilson(0.0, 27)[0] == 0.0
    assert wilson(1.0, 27)[1] == 1.0


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_as_in_scipy(hits):
    """Wilson's interval is scipy's, holds the rate, and narrows with every prompt more."""
    passed, count = hits
    ends = wilson(passed / count, count)
    expected = scipy.stats.binomtest(passed, count).proportion_ci(method="wilson")
    assert ends == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert ends[0] <= passed / count <= ends[1]
    more = wilson(passed / count, count + 1)
    assert more[1] - more[0] < ends[1] - ends[0]


def test_stderr_counts_prompts():
    """With one score a prompt it is the usual one, and repeats that say the same again change nothing."""
    values = [0.0, 1.0, 1.0, 0.5]
    for times in (1, 8):
        found = clustered_stderr([[value] * times for value in values])
        assert found == pytest.approx(statistics.stdev(values) / 2)
    assert clustered_stderr([[1.0, 0.0]]) is None


# Prompts and seeds.


def compared(*sides: NDArray[np.float64]) -> Crossed:
    found = crossed(*sides)
    assert found
    return found


def interval(rows) -> Interval:
    found = mean_interval(rows)
    assert found
    return found


def simulate(rng, prompts, seeds, seed_effect, ease=(0.2, 0.7, 0.9)):
    """Scores of one data set: prompts of three difficulties, seeds that move all of them; truth 0.6."""
    rate = rng.choice(ease, size=(prompts, 1)) + seed_effect * rng.choice((-1, 1), size=(1, seeds))
    return (rng.random((prompts, seeds)) < rate).astype(float)


def test_crossed_is_a_t_test_where_only_one_factor_is_random():
    """Without seeds it is scipy's paired t-test over prompts, without prompts Welch's over seeds."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 9, 1))
    found = compared(a, b)
    assert found.p_value == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue[0])
    low, high = scipy.stats.ttest_rel(b, a).confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx((low[0], high[0]))
    one, two = np.ones((9, 1)) * rng.random(4), np.ones((9, 1)) * rng.random(3)
    found = compared(one, two)
    assert found.p_value == pytest.approx(scipy.stats.ttest_ind(one[0], two[0], equal_var=False).pvalue)


def test_crossed_finds_the_variances():
    """The components are those that the scores were made with, and the more of each, the surer."""
    rng, found = np.random.default_rng(1), []
    for _ in range(300):
        sides = [
            0.1 * rng.standard_normal((27, 1))
            + 0.05 * rng.standard_normal((1, 5))
            + 0.2 * rng.standard_normal((27, 5))
            for _ in range(2)
        ]
        found.append(compared(*sides).design)
    assert (found[0].prompts, found[0].seeds, found[0].sides) == (27, 5, 2)
    assert statistics.fmean(each.by_prompt for each in found) == pytest.approx(0.1**2, rel=0.1)
    assert statistics.fmean(each.by_seed for each in found) == pytest.approx(0.05**2, rel=0.15)
    assert statistics.fmean(each.rest for each in found) == pytest.approx(0.2**2, rel=0.05)


def test_crossed_holds_where_the_prompts_alone_do_not():
    """Where seeds move all prompts at once, the test over prompts errs often, the crossed one within 5 %."""
    rng, wrong = np.random.default_rng(2), np.zeros(2)
    for _ in range(300):
        a, b = (simulate(rng, 27, 3, 0.15, ease=(0.3, 0.6, 0.8)) for _ in range(2))
        alone = paired(*runs(a.mean(axis=1).tolist(), b.mean(axis=1).tolist()), flips=500)
        wrong += (compared(a, b).p_value <= 0.05, alone.p_value <= 0.05)
    assert wrong[0] / 300 <= 0.05 < 0.1 < wrong[1] / 300


def test_nothing_varies():
    """Equal scores are no difference, a difference in every cell is one, and one prompt tells nothing."""
    ones, zeros = np.ones((4, 3)), np.zeros((4, 3))
    assert [compared(*sides).p_value for sides in ((ones, ones), (zeros, ones))] == [1.0, 0.0]
    assert crossed(ones[:1], zeros[:1]) is None


@pytest.mark.parametrize("ease", [(0.4, 0.6, 0.8), (0.8, 0.95, 1.0)])
@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_coverage_of_the_mean(ease, seeds):
    """The interval over prompts and seeds holds the true mean, also near 1, where a bootstrap does not."""
    rng, held = np.random.default_rng(3), 0
    for _ in range(400):
        rate = rng.choice(ease, size=(27, 1)) * np.ones(seeds)
        found = interval(table((rng.random(rate.shape) < rate).astype(float).tolist()))
        held += found.low <= statistics.fmean(ease) <= found.high
    assert held / 400 >= 0.94


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(SCORES, min_size=2, max_size=2), min_size=2, max_size=12))
def test_repeats_tell_the_interval_nothing(rows):
    """Eight repeats of every score give the interval of one, and it holds the estimate."""
    once = table(rows)
    often = {key: (name, {seed: v * 8 for seed, v in cells.items()}) for key, (name, cells) in once.items()}
    found, repeated = interval(once), interval(often)
    assert (repeated.low, repeated.high) == pytest.approx((found.low, found.high))
    assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_interval_of_equal_scores():
    """27 of 27 right is not certainty: the interval is Wilson's, which has a width."""
    found = interval(table([[1.0]] * 27))
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 27))


def test_scores_that_tell_nothing():
    """One prompt has no interval; prompts that lack a seed are left out; NaN is refused."""
    assert mean_interval({}) is None
    assert mean_interval(table([[1.0, 0.0]])) is None
    assert mean_interval(table([[1.0, 0.0], [0.5, None]])) is None
    with pytest.raises(ValueError, match="from 0 to 1"):
        mean_interval(table([[1.0], [math.nan]]))


# Two runs.


@settings(max_examples=40, deadline=None)
@given(st.lists(SCORES, min_size=2, max_size=9).flatmap(lambda a: st.tuples(st.just(a), st.permutations(a))))
def test_sign_flip_as_in_scipy(columns):
    """The exact sign-flip test is scipy's permutation test of paired samples."""
    found = paired(*runs(*columns))
    whole = [[round(20 * score) for score in column] for column in columns]  # scipy's ties need exact sums
    scipys = scipy.stats.permutation_test(
        whole, lambda a, b: np.mean(np.subtract(b, a)), permutation_type="samples", n_resamples=np.inf
    )
    assert found.exact
    assert found.p_value == pytest.approx(scipys.pvalue)


def test_sign_flip_by_chance():
    """With too many changes to try every sign, the seeded estimate is near the exact McNemar p-value."""
    a, b = [0.0] * 20 + [1.0] * 10 + [1.0] * 60, [1.0] * 20 + [0.0] * 10 + [1.0] * 60
    found = paired(*runs(a, b))
    assert not found.exact
    assert found.mcnemar is not None
    assert found.p_value == pytest.approx(found.mcnemar, abs=0.01)
    assert found == paired(*runs(a, b))
    far = paired(*runs([0.0] * 40, [1.0] * 40), flips=999)
    assert far.p_value == 1 / 1000  # the estimate counts the pattern seen, and is never 0


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_as_in_scipy(up, down):
    """The exact McNemar test is scipy's binomial test with a fair coin."""
    expected = scipy.stats.binomtest(up, up + down).pvalue if up + down else 1.0
    assert mcnemar(up, down) == pytest.approx(expected)


def test_sign_flip_of_binary_scores_is_mcnemar():
    """On scores of 0 and 1 the two exact tests are one: 7 up and 1 down of 21 give 0.070."""
    found = paired(*runs([0.0] * 7 + [1.0] * 14, [1.0] * 7 + [0.0] + [1.0] * 13))
    assert (found.up, found.down, found.unchanged) == (7, 1, 13)
    assert found.p_value == found.mcnemar == pytest.approx(0.0703, abs=5e-5)
    assert found.discordance == pytest.approx(8 / 21)
    # Bonett and Price: each count and the number of pairs, one and two larger.
    gain, loss = 8 / 23, 2 / 23
    half = 1.95996 * math.sqrt((gain + loss - (gain - loss) ** 2) / 23)
    assert found.difference.low == pytest.approx(gain - loss - half, abs=1e-4)
    assert found.difference.high == pytest.approx(gain - loss + half, abs=1e-4)


def test_paired_coverage():
    """Over 500 simulated pairs of runs, 27 prompts each, 94-99 % of intervals hold the true difference."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(500):
        a = rng.random(27) < 0.5
        b = np.where(rng.random(27) < 0.3, rng.random(27) < 0.7, a)  # 0.3 * (0.7 - 0.5) better
        found = paired(*runs(a.astype(float).tolist(), b.astype(float).tolist())).difference
        held += found.low <= 0.06 <= found.high
    assert 0.94 <= held / 500 <= 0.99


@settings(max_examples=60, deadline=None)
@given(RUNS)
def test_swapping_the_runs(rows):
    """b against a mirrors a against b, and the interval holds the difference."""
    a, b = {str(i): r[0] for i, r in enumerate(rows)}, {str(i): [r[1]] for i, r in enumerate(rows)}
    one, other = paired(a, b, flips=500), paired(b, a, flips=500)
    assert (one.up, one.down, one.unchanged) == (other.down, other.up, other.unchanged)
    assert (one.p_value, one.mcnemar) == (other.p_value, other.mcnemar)
    assert one.difference.low == pytest.approx(-other.difference.high)
    assert -1 <= one.difference.low <= one.difference.estimate <= one.difference.high <= 1
    assert one.up + one.down + one.unchanged == len(rows)


@settings(max_examples=30, deadline=None)
@given(RUNS)
def test_repeats_tell_the_comparison_nothing(rows):
    """Three repeats of every score give the same test, interval and counts as one."""
    a, b = {str(i): r[0] for i, r in enumerate(rows)}, {str(i): [r[1]] for i, r in enumerate(rows)}
    often = [{key: scores * 3 for key, scores in run.items()} for run in (a, b)]
    once, repeated = paired(a, b, flips=500), paired(*often, flips=500)
    assert repeated.p_value == once.p_value
    assert repeated.difference.low == pytest.approx(once.difference.low)
    assert (repeated.up, repeated.down) == (once.up, once.down)


def test_equal_runs_are_not_certainly_equal():
    """27 prompts without a change give p = 1 and still an interval, narrower with 270."""
    few, many = (paired(*runs([1.0] * n, [1.0] * n)) for n in (27, 270))
    assert few.p_value == 1.0
    assert few.difference.high > 0.05 > many.difference.high > 0


def test_rounding_is_no_change():
    """A prompt with the same score three times is unchanged, though its mean has a rounding error."""
    assert sum([0.35] * 3) / 3 != 0.35
    assert paired({"a": [0.35]}, {"a": [0.35] * 3}).unchanged == 1


def test_other_prompts_are_refused():
    """Runs on different prompts, empty runs and prompts without a score are not compared."""
    with pytest.raises(ValueError, match="2 prompts are in one run only: a, b"):
        paired({"a": [1.0], "c": [1.0]}, {"b": [1.0], "c": [1.0]})
    with pytest.raises(ValueError, match="no prompts"):
        paired({}, {})
    with pytest.raises(ValueError, match="no score"):
        paired({"a": []}, {"a": [1.0]})
    with pytest.raises(ValueError, match="from 0 to 1"):
        paired({"a": [math.nan]}, {"a": [1.0]})


def test_holm():
    """Holm's p-values are those of R's p.adjust, in the order given."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# Seeds.


def test_prediction_interval():
    """Five seeds predict the next within 3.04 standard deviations; one seed, or equal ones, nothing."""
    values = [0.8, 0.4, 0.6, 0.7, 0.5]
    found = prediction_interval(values)
    assert found is not None
    assert (found.high - 0.6) / statistics.stdev(values) == pytest.approx(3.04, abs=5e-3)
    assert found.high - 0.6 == pytest.approx(
        scipy.stats.t.ppf(0.975, 4) * statistics.stdev(values) * math.sqrt(1.2)
    )
    assert prediction_interval([0.8]) is None
    assert prediction_interval([0.8] * 5) is None


def test_seed_variance_by_hand():
    """Three prompts and two seeds give the variance worked out by hand; an incomplete prompt is left out."""
    # Seed means 1/6 and 1/2: MS_seed = 3 * 1/18 = 1/6. What additivity leaves: +-1/6, +-1/12, +-1/12 in the
    # two cells of each prompt, so that MS_rest = 2 * (1/36 + 1/144 + 1/144) / 2 = 1/24.
    rows = [[0.0, 0.0], [0.0, 0.5], [0.5, 1.0]]
    found = seed_spread(table(rows))
    assert found is not None
    assert found.variance == pytest.approx((1 / 6 - 1 / 24) / 3)
    assert found.stdev == pytest.approx(math.sqrt(1 / 18))
    assert (found.seeds, found.prompts) == (2, 3)
    assert seed_spread(table([*rows, [1.0, None]])) == found


def test_seeds_that_tell_nothing():
    """One seed, one complete prompt, or seeds that score all the same have no spread to report."""
    assert seed_spread(table([[1.0], [0.0]])) is None
    assert seed_spread(table([[1.0, 0.0], [None, 1.0]])) is None
    assert seed_spread(table([[1.0, 1.0], [0.0, 0.0]])) is None
    assert seed_spread({}) is None


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1.0])] * 6), min_size=1, max_size=5), st.integers(1, 6))
def test_pass_hat_against_enumeration(prompts, number):
    """pass^k is the share of all sets of k attempts that succeed throughout, and falls with k."""
    attempts = [row[:number] for row in prompts]
    found = pass_hat({str(i): row for i, row in enumerate(attempts)})
    assert list(found) == list(range(1, number + 1))
    for k, value in found.items():
        each = [statistics.fmean(map(min, itertools.combinations(row, k))) for row in attempts]
        assert value == pytest.approx(statistics.fmean(each))
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_pass_hat_needs_whole_attempts():
    """Prompts with different numbers of attempts, none, or half a success have no pass^k."""
    for attempts in ({"a": [1.0], "b": [1.0, 0.0]}, {"a": []}, {}):
        with pytest.raises(ValueError, match="same number"):
            pass_hat(attempts)
    with pytest.raises(ValueError, match="0 or 1"):
        pass_hat({"a": [0.5]})
