"""Mean, spread and paired differences over seeds."""

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
