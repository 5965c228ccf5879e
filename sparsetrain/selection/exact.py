"""Exact top-k by magnitude along the last axis: exactly k entries, ties to the lower index."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import numerics

ROUNDINGS: dict[str, Callable[[float], int]] = {
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
}


def count(entries: int, density: float, rounding: str = "round") -> int:
    """How many of `entries` a density keeps.

        k = min(n, max(1, round(density * n)))          (half to even)

    Args:
      entries: n, number of entries, at least 1.
      density: fraction kept, 0 < density <= 1.
      rounding: "round" (ours), "floor" or "ceil", for parity with other implementations.

    Returns:
      k, from Python numbers at trace time.

    Raises:
      ValueError: `entries` < 1, a density outside (0, 1], or an unknown rounding.

    Example:
      >>> count(500, 0.04), count(10, 0.001), count(997, 0.2, "ceil")
      (20, 1, 200)
    """
    density = numerics.check_density(density)
    if entries < 1:
        raise ValueError(f"entries={entries}: an empty array has nothing to keep; leave it out")
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding={rounding!r}: choose one of {sorted(ROUNDINGS)}")
    return min(entries, max(1, ROUNDINGS[rounding](density * entries)))


def magnitudes(values: jax.Array) -> jax.Array:
    """|values| in a dtype in which XLA's CPU top-k stays a heap and does not become a full sort."""
    return jnp.abs(values).astype(numerics.accumulator_dtype(values.dtype))


def top_k_columns(values: jax.Array, k: int) -> jax.Array:
    """Positions of the k largest magnitudes of every row.

    Args:
      values: [..., N] float.
      k: entries kept per row, 1 <= k <= N.

    Returns:
      [..., k] int32, in order of falling magnitude; ties go to the lower index; NaN counts as
      largest.

    Example:
      >>> import jax.numpy as jnp
      >>> top_k_columns(jnp.array([[1.0, -3.0, 2.0]]), 2).tolist()
      [[1, 2]]
    """
    if not 1 <= k <= values.shape[-1]:
        raise ValueError(f"k={k}: must lie in 1..{values.shape[-1]}, the length of the last axis")
    return lax.top_k(magnitudes(values), k)[1]


def top_k_mask(values: jax.Array, k: int) -> jax.Array:
    """Mask of the k largest magnitudes of every row: exactly k ones each.

    Args:
      values: [..., N] float.
      k: entries kept per row, 1 <= k <= N.

    Returns:
      [..., N] bool.

    Example:
      >>> import jax.numpy as jnp
      >>> top_k_mask(jnp.array([[1.0, -1.0, 0.5]]), 1).astype(int).tolist()       # a tie
      [[1, 0, 0]]
    """
    rows = values.reshape(-1, values.shape[-1])
    columns = top_k_columns(rows, k)
    mask = jnp.zeros(rows.shape, bool)
    mask = mask.at[jnp.arange(rows.shape[0])[:, None], columns].set(True, unique_indices=True)
    return mask.reshape(values.shape)
