"""Columns that a whole batch shares: scored together, in blocks, or the union of the rows' choices."""

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.selection.exact import magnitudes

SCORES = ("l1", "l2")


def column_scores(values: jax.Array, score: str = "l1") -> jax.Array:
    """How much each column holds, over all rows.

        l1: c_j = sum_i |u_ij|          l2: c_j = sum_i u_ij^2

    Ranking by l2 keeps at least K/O of the squared mass of the batch; l1 is what meProp's code does
    and gives no such guarantee.

    Args:
      values: u, [R, O] float.
      score: "l1" or "l2".

    Returns:
      [O], float32 or float64.

    Example:
      >>> import jax.numpy as jnp
      >>> column_scores(jnp.array([[1.0, -3.0], [1.0, 0.0]])).tolist()
      [2.0, 3.0]
    """
    magnitude = magnitudes(values)
    return jnp.sum(magnitude if score == "l1" else magnitude * magnitude, axis=0)


def top_columns(scores: jax.Array, k: int, block: int = 1) -> jax.Array:
    """The columns with the largest scores, in whole blocks of neighbours.

    Args:
      scores: [O] non-negative.
      k: number of blocks kept, 1 <= k <= O / block.
      block: neighbours kept or dropped together; divides O.

    Returns:
      [k * block] int32 distinct columns; ties go to the lower index.

    Example:
      >>> import jax.numpy as jnp
      >>> top_columns(jnp.array([1.0, 4.0, 3.0, 3.0]), 1, block=2).tolist()
      [2, 3]
    """
    return columns_of(top_blocks(scores, k, block), block)


def top_blocks(scores: jax.Array, k: int, block: int) -> jax.Array:
    """Numbers of the blocks of neighbouring columns with the largest summed scores.

    Args:
      scores: [O] non-negative.
      k: number of blocks kept, 1 <= k <= O / block.
      block: columns of a block; divides O.

    Returns:
      [k] int32 distinct, each below O / block; ties go to the lower number.

    Example:
      >>> import jax.numpy as jnp
      >>> top_blocks(jnp.array([1.0, 4.0, 3.0, 3.0]), 1, block=2).tolist()
      [1]
    """
    if block > 1:
        scores = jnp.sum(scores.reshape(-1, block), axis=1)
    return lax.top_k(scores, k)[1]


def columns_of(blocks: jax.Array, block: int) -> jax.Array:
    """The columns of blocks, one block after the other.

    Args:
      blocks: [nb] int32.
      block: columns of a block.

    Returns:
      [nb * block] int32.

    Example:
      >>> import jax.numpy as jnp
      >>> columns_of(jnp.array([3, 0]), 2).tolist()
      [6, 7, 0, 1]
    """
    if block == 1:
        return blocks
    return (blocks[:, None] * block + jnp.arange(block, dtype=jnp.int32)[None]).reshape(-1)


def union_columns(columns: jax.Array, outputs: int) -> tuple[jax.Array, jax.Array]:
    """The columns that any row chose, each once, padded to a fixed length.

    Args:
      columns: [R, K] int32, distinct within a row, in 0..O-1.
      outputs: O.

    Returns:
      union: [R * K] int32, rising; unused places hold distinct numbers >= O, which JAX's scatters
        drop, so the array may be promised unique.
      places: [R, K] int32, where each chosen column stands in `union`.

    Example:
      >>> import jax.numpy as jnp
      >>> union, places = union_columns(jnp.array([[4, 1], [1, 2]]), 8)
      >>> union.tolist(), places.tolist()
      ([1, 2, 4, 11], [[2, 0], [0, 1]])
    """
    capacity = columns.size
    chosen = jnp.zeros((outputs,), jnp.float32).at[columns.reshape(-1)].set(1.0)
    # top_k of a 0/1 vector lists the ones first, by rising index: a compaction without a sort.
    flags, union = lax.top_k(chosen, min(capacity, outputs))
    short = capacity - flags.shape[0]
    flags, union = jnp.pad(flags, (0, short)), jnp.pad(union, (0, short))
    padding = outputs + jnp.arange(capacity, dtype=jnp.int32)
    union = jnp.where(flags > 0, union, padding)
    places = jnp.zeros((outputs,), jnp.int32)
    places = places.at[union].set(
        jnp.arange(capacity, dtype=jnp.int32), mode="drop", unique_indices=True
    )
    return union, places[columns]
