"""Columns drawn uniformly, without looking at the values."""

import jax
import jax.numpy as jnp
from jax import lax


def random_columns(key: jax.Array, outputs: int, k: int) -> jax.Array:
    """k distinct columns, every subset equally likely.

    Args:
      key: a typed JAX key.
      outputs: O, number of columns.
      k: how many are drawn, 1 <= k <= O.

    Returns:
      [k] int32, distinct, in random order.

    Example:
      >>> import jax
      >>> sorted(random_columns(jax.random.key(0), 3, 3).tolist())
      [0, 1, 2]
    """
    # The k largest of O uniform draws: a heap, where jax.random.choice would sort all O.
    return lax.top_k(jax.random.uniform(key, (outputs,), jnp.float32), k)[1]
