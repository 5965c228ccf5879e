"""Mean, spread, paired differences over seeds, and tests of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean with its 95% interval.

    Attributes:
      mean: of the differences.
      low, high: bounds; NaN for fewer than two pairs.
      pairs: number of seeds that both sides have.
    """

    mean: float
    low: float
    high: float
    pairs: int


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (divisor n - 1; NaN for a single value).

    Example:
      >>> mean_and_std([1.0, 3.0])
      (2.0, 1.4142135623730951)
    """
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), spread


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval:
    """Mean of the differences at equal seeds, with Student's interval.

        d_s = a_s - b_s,    mean(d) -+ t(.975, n - 1) std(d) / sqrt(n)

    Runs of one seed share initialisation, batches and dropout, so what a seed adds to both sides cancels.

    Args:
      ours: seed -> value a.
      theirs: seed -> value b; seeds that only one side has are left out.

    Returns:
      `Interval`; its mean is NaN without a common seed.

    Example:
      >>> paired_difference({0: 2.0, 1: 3.0, 2: 4.0}, {0: 1.0, 1: 1.0, 2: 1.0, 3: 9.0}).mean
      2.0
    """
    seeds = sorted(ours.keys() & theirs.keys())
    nothing = float("nan")
    if not seeds:
        return Interval(nothing, nothing, nothing, 0)
    differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
    mean = float(differences.mean())
    if len(seeds) < 2:
        return Interval(mean, nothing, nothing, 1)
    half = stats.t.ppf(0.975, len(seeds) - 1) * differences.std(ddof=1) / np.sqrt(len(seeds))
    return Interval(mean, float(mean - half), float(mean + half), len(seeds))


class PValues(NamedTuple):
    """Two-sided p-values of the hypothesis that paired values do not differ.

    Attributes:
      t: of Student's paired t-test.
      wilcoxon: of Wilcoxon's signed rank test, which supposes symmetry but no normal distribution.
    """

    t: float
    wilcoxon: float


def paired_tests(ours: Mapping[int, float], theirs: Mapping[int, float]) -> PValues:
    """Tests of the differences at equal seeds.

    Args:
      ours: seed -> value a.
      theirs: seed -> value b; seeds that only one side has are left out.

    Returns:
      `PValues`; 1 where all differences are zero, NaN for fewer than two pairs.

    Example:
      >>> found = paired_tests({0: 2.0, 1: 3.0, 2: 5.0}, {0: 1.0, 1: 1.0, 2: 1.0})
      >>> round(found.t, 3), round(found.wilcoxon, 3)
      (0.118, 0.25)
    """
    # Rounded off: else sums of equal accuracies in another order would rank as differences.
    differences = np.round(
        [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())], 9
    )
    if len(differences) < 2:
        return PValues(float("nan"), float("nan"))
    if not differences.any():
        return PValues(1.0, 1.0)
    if np.ptp(differences) == 0:
        t = 0.0
    else:
        t = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return PValues(t, float(stats.wilcoxon(differences).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for a family of tests, so that all its false findings together stay below the level.

        p'_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))          p_(1) <= ... <= p_(m)

    Args:
      p_values: of the m tests of the family.

    Returns:
      Corrected ones in the same order.

    Reference: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal
      of Statistics 6 (1979).

    Example:
      >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
      [0.03, 0.06, 0.06, 0.02]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    rising = np.maximum.accumulate(np.minimum(1.0, factors * np.asarray(p_values)[order]))
    corrected = np.empty(len(order))
    corrected[order] = rising
    return corrected.tolist()
