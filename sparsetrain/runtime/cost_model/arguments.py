"""Numbers and arrays as the model takes them, or an error that says what to give instead."""

from typing import Any

import numpy as np

# A float, or an array that broadcasts against the others.
Numbers = float | np.ndarray


def at_least(name: str, value: Any, least: float, cure: str, open_end: bool = False) -> Any:
    """The value as floats, all of them finite and no smaller than a limit.

    Args:
      name: how the caller spells the argument.
      value: number or array.
      least: the limit.
      cure: what to give instead, as the error is to end.
      open_end: whether the limit itself is too small.

    Returns:
      float64, a scalar or an array of the same shape.

    Raises:
      ValueError: too small, or not finite.

    Example:
      >>> float(at_least("workers", 4, 1, "count yourself"))
      4.0
      >>> at_least("workers", 0, 1, "count yourself")
      Traceback (most recent call last):
      ValueError: workers=0: must be at least 1; count yourself
    """
    numbers = np.asarray(value, np.float64)
    wrong = ~np.isfinite(numbers) | (numbers <= least if open_end else numbers < least)
    if wrong.any():
        bound = "more than" if open_end else "at least"
        first = numbers[wrong].flat[0]
        raise ValueError(f"{name}={first:g}: must be {bound} {least:g}; {cure}")
    return numbers[()]


def density_in_range(density: Any) -> Any:
    """Densities as floats in (0, 1]. `numerics.check_density` takes one number; here it may be an array.

    Raises:
      ValueError: outside (0, 1].

    Example:
      >>> density_in_range(4)
      Traceback (most recent call last):
      ValueError: density=4: must lie in (0, 1]; it is the fraction sent, so 4% is 0.04
    """
    numbers = np.asarray(density, np.float64)
    wrong = ~((numbers > 0) & (numbers <= 1))
    if wrong.any():
        first = numbers[wrong].flat[0]
        raise ValueError(
            f"density={first:g}: must lie in (0, 1]; it is the fraction sent, so 4% is 0.04"
        )
    return numbers[()]
