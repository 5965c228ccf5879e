"""Arrays that are split over devices: how many shards there are, and which of equal entries come first.

Counts add over shards, so a search by counting needs no more than their sum. Only a tie at the cut asks for
the order of the entries, and there each shard needs to know how many ties the shards before it hold.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import varying

AxisName = str | tuple[str, ...] | None


def number(axis_name: AxisName) -> int:
    """How many shards an array is split into; 1 where no axis is named.

    Args:
      axis_name: of `vmap` or `shard_map`, one name or several, whose product counts.

    Raises:
      NameError: outside of them.

    Example:
      >>> jax.vmap(lambda x: x * number("shards"), axis_name="shards")(jnp.ones(3)).tolist()
      [3.0, 3.0, 3.0]
    """
    if axis_name is None:
        return 1
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    return math.prod(lax.axis_size(name) for name in names)


def total(counts: jax.Array, axis_name: AxisName) -> jax.Array:
    """Counts of all shards added up; the counts themselves where no axis is named."""
    return counts if axis_name is None else lax.psum(counts, axis_name)


def earlier(counts: jax.Array, axis_name: AxisName) -> jax.Array:
    """What the shards before this one have counted.

        sum over shards s < here of counts_s

    Args:
      counts: int32, in this shard; so much is gathered of every one.
      axis_name: of the shards.

    Returns:
      int32, same shape.

    Example:
      >>> jax.vmap(lambda n: earlier(n, "shards"), axis_name="shards")(jnp.array([3, 1, 2])).tolist()
      [0, 3, 4]
    """
    everyone = varying.of_all(axis_name, counts)
    is_before = jnp.arange(everyone.shape[0]) < lax.axis_index(axis_name)
    is_before = is_before.reshape(-1, *(1 for _ in counts.shape))
    return jnp.sum(jnp.where(is_before, everyone, 0), axis=0, dtype=jnp.int32)
