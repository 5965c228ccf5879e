"""The entries that a sparse payload carries, with a fixed number of slots and a count that may move."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sparsetrain import selection
from sparsetrain.payload import SparseTree, beyond


class Entries(NamedTuple):
    """Slots of a sparse payload.

    Attributes:
      values: [K] float, zero in unused slots.
      indices: [K] int32, rising; unused slots hold distinct numbers >= n.
      used: int32 scalar, slots in use; they come first.
    """

    values: jax.Array
    indices: jax.Array
    used: jax.Array


def largest(u: jax.Array, slots: int, count: int | jax.Array) -> Entries:
    """The `count` largest magnitudes of a flat array in `slots` >= count slots.

    Args:
      u: [n] float.
      slots: K, static.
      count: how many are kept: the Python number K, or an int32 scalar in 0..K.

    Returns:
      The entries; ties go to the lower index.

    Example:
      >>> largest(jnp.array([1.0, -3.0, 2.0]), 2, jnp.int32(1)).indices.tolist()
      [1, 4]
    """
    values, indices = selection.top_k_entries(u, slots)
    if isinstance(count, int) and count == slots:
        return Entries(values, indices, jnp.int32(slots))
    by_size = selection.top_k_columns(values[None], slots)[0]
    rank = jnp.arange(slots, dtype=jnp.int32)
    is_kept = jnp.zeros((slots,), bool).at[by_size].set(rank < count, unique_indices=True)
    return rising(u, indices, is_kept)


def rising(u: jax.Array, indices: jax.Array, is_kept: jax.Array) -> Entries:
    """Slots for some of a list of distinct positions, in rising order.

    Args:
      u: [n] float.
      indices: [K] int32 distinct positions in any order; those not kept may hold anything.
      is_kept: [K] bool.

    Returns:
      The kept entries first.

    Example:
      >>> rising(jnp.array([5.0, 6.0, 7.0]), jnp.array([2, 0]), jnp.array([True, True])).values.tolist()
      [5.0, 7.0]
    """
    slots = indices.shape[0]
    ordered = lax.sort(jnp.where(is_kept, indices, beyond(u.shape[0], slots)))
    values = u.at[ordered].get(mode="fill", fill_value=0, unique_indices=True)
    return Entries(values, ordered, jnp.sum(is_kept, dtype=jnp.int32))


def where(u: jax.Array, mask: jax.Array, slots: int) -> Entries:
    """Slots for the entries of a mask with at most `slots` ones.

    Args:
      u: [n] float.
      mask: [n] bool.
      slots: K, static.

    Returns:
      The entries in rising order.

    Example:
      >>> where(jnp.array([5.0, 6.0, 7.0]), jnp.array([True, False, True]), 2).values.tolist()
      [5.0, 7.0]
    """
    count = jnp.minimum(jnp.sum(mask, dtype=jnp.int32), slots)
    indices = selection.compact(mask, slots)
    indices = jnp.where(jnp.arange(slots) < count, indices, beyond(u.shape[0], slots))
    values = u.at[indices].get(mode="fill", fill_value=0, unique_indices=True)
    return Entries(values, indices, count)


def in_tree(kept: Entries, shapes: tuple[tuple[int, ...], ...]) -> SparseTree:
    """Entries of several tensors that were taken as one list, as their payload.

    Args:
      kept: of the concatenated tensors.
      shapes: of the tensors, with at least one entry in all.

    Returns:
      The payload.

    Example:
      >>> kept = where(jnp.array([5.0, 6.0, 7.0]), jnp.array([True, False, True]), 2)
      >>> payload = in_tree(kept, ((2,), (0,), (1,)))
      >>> payload.indices.tolist(), payload.counts.tolist()
      ([0, 0], [1, 0, 1])
    """
    starts = jnp.array(np.cumsum([0, *map(math.prod, shapes)])[:-1], jnp.int32)
    # Of leaves without entries, which start where the next one does, the last is meant.
    leaf = jnp.searchsorted(starts, kept.indices, side="right") - 1
    is_used = jnp.arange(leaf.shape[0]) < kept.used
    counts = jnp.zeros(starts.shape, jnp.int32).at[leaf].add(is_used.astype(jnp.int32))
    indices = jnp.where(is_used, kept.indices - starts[leaf], kept.indices)
    return SparseTree(kept.values, indices, counts, shapes)
