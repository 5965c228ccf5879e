"""Products with a gradient of which every row keeps a few entries: nothing is multiplied by zero.

The union of all rows' columns makes a dense [R, R * k] matrix with k entries a row, so a dense product
does R times the needed work. On a CPU the sums below are bound by memory instead. Elsewhere dense
products win.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import numerics

# Up to so many terms are written out side by side, which makes one pass of them.
UNROLLED = 16


class Pairs(NamedTuple):
    """The kept entries, row by row.

    Attributes:
      values: [R, k].
      places: int32 [R, k], where each entry's column stands among the kept columns.
    """

    values: jax.Array
    places: jax.Array


def input_gradient(pairs: Pairs, kept_kernel: jax.Array) -> jax.Array:
    """Gradient of the inputs.

        dx_i = sum_j v_ij W[c_ij]

    Args:
      pairs: v and the places of c.
      kept_kernel: [C, I], the kernel's rows of the kept columns.

    Returns:
      [R, I] of the values' dtype, summed in float32 at least.

    Example:
      >>> pairs = Pairs(jnp.array([[2.0], [3.0]]), jnp.array([[1], [0]]))
      >>> input_gradient(pairs, jnp.array([[1.0, 0.0], [0.0, 1.0]])).tolist()
      [[0.0, 2.0], [3.0, 0.0]]
    """
    dtype = numerics.accumulator_dtype(pairs.values.dtype)
    values = pairs.values.astype(dtype)
    rows, terms = values.shape

    def term(j: int | jax.Array) -> jax.Array:
        weights = kept_kernel.at[pairs.places[:, j]].get(mode="promise_in_bounds")
        return values[:, j][:, None] * weights.astype(dtype)

    if terms <= UNROLLED:
        total = term(0)
        for j in range(1, terms):
            total = total + term(j)
    else:
        zeros = jnp.zeros((rows, kept_kernel.shape[1]), dtype)
        total = lax.fori_loop(0, terms, lambda j, sums: sums + term(j), zeros)
    return total.astype(pairs.values.dtype)


def kernel_gradient(pairs: Pairs, x: jax.Array, columns: int) -> jax.Array:
    """Gradient of the kernel's rows.

        dW[c_ij] += v_ij x_i

    Args:
      pairs: v and the places of c.
      x: [R, I].
      columns: C, number of kept columns.

    Returns:
      [C, I] of the values' dtype, summed in float32 at least.

    Example:
      >>> pairs = Pairs(jnp.array([[2.0], [3.0]]), jnp.array([[1], [1]]))
      >>> kernel_gradient(pairs, jnp.array([[1.0, 0.0], [0.0, 1.0]]), 2).tolist()
      [[0.0, 0.0], [2.0, 3.0]]
    """
    dtype = numerics.accumulator_dtype(pairs.values.dtype)
    terms = pairs.values.shape[1]
    values, places = pairs.values.astype(dtype).reshape(-1), pairs.places.reshape(-1)
    x = x.astype(dtype)

    # A loop over entries and not one scatter: for 320 entries XLA's CPU scatter took 50 times as long.
    def add(n: int | jax.Array, sums: jax.Array) -> jax.Array:
        return sums.at[places[n]].add(values[n] * x[n // terms], mode="promise_in_bounds")

    sums = lax.fori_loop(0, values.shape[0], add, jnp.zeros((columns, x.shape[1]), dtype))
    return sums.astype(pairs.values.dtype)
