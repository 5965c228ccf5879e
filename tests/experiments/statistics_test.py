import math

import numpy as np
import pytest
from scipy import stats

from experiments import statistics


def test_paired_interval_against_scipy():
    draws = np.random.default_rng(0).normal(size=(2, 6))
    ours, theirs = (dict(enumerate(row)) for row in draws)
    theirs[9] = 100.0  # No partner.
    found = statistics.paired_difference(ours, theirs)
    oracle = stats.ttest_rel(*draws).confidence_interval(0.95)
    assert found.pairs == 6
    assert found.mean == pytest.approx(draws[0].mean() - draws[1].mean())
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))


def test_one_pair_and_none():
    one = statistics.paired_difference({0: 2.0}, {0: 1.0})
    assert (one.mean, one.pairs) == (1.0, 1)
    assert math.isnan(one.low)
    assert statistics.paired_difference({0: 2.0}, {1: 1.0}).pairs == 0


def test_paired_tests_against_scipy_and_at_their_limits():
    ours, theirs = np.random.default_rng(0).normal(size=(2, 9))
    found = statistics.paired_tests(dict(enumerate(ours)), dict(enumerate(theirs)) | {99: 1.0})
    assert found.t == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(ours, theirs).pvalue)
    same = {0: 1.0, 1: 2.0}
    assert statistics.paired_tests(same, same) == (1.0, 1.0)
    assert statistics.paired_tests({0: 2.0, 1: 3.0}, same).t == 0.0
    assert np.isnan(statistics.paired_tests({0: 1.0}, same)).all()


def test_holm_is_the_closed_test_of_bonferroni():
    """By definition: the largest Bonferroni p-value of all intersections that a hypothesis belongs to."""
    p = [0.01, 0.04, 0.03, 0.005, 0.5]
    for i, corrected in enumerate(statistics.holm(p)):
        subsets = [s for s in range(1, 2 ** len(p)) if s >> i & 1]
        bonferroni = [
            min(1.0, s.bit_count() * min(p[j] for j in range(len(p)) if s >> j & 1))
            for s in subsets
        ]
        assert corrected == pytest.approx(max(bonferroni))
    assert statistics.holm([]) == []
