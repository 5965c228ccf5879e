"""Results as markdown: a table, and what stands in its cells."""

import math
from collections.abc import Mapping, Sequence

from experiments.statistics import Interval, mean_and_std


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(numbers: Mapping[int, float], digits: int = 2) -> str:
    """Mean, and standard deviation where there are several seeds.

    Example:
      >>> spread({0: 1.0, 1: 3.0}), spread({0: 1.0})
      ('2.00 ± 1.41', '1.00')
    """
    mean, std = mean_and_std(list(numbers.values()))
    return f"{mean:.{digits}f}" + ("" if math.isnan(std) else f" ± {std:.{digits}f}")


def difference(found: Interval) -> str:
    """A difference with its interval.

    Example:
      >>> difference(Interval(0.5, 0.25, 0.75, 5)), difference(Interval(0.5, math.nan, math.nan, 1))
      ('+0.50 [+0.25, +0.75]', '+0.50')
    """
    if not found.pairs:
        return "-"
    if math.isnan(found.low):
        return f"{found.mean:+.2f}"
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
