"""Which blocks of a matrix are there: a grid of flags, and the lists that kernels walk along."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Lists(NamedTuple):
    """The live blocks of every row of a grid.

    Attributes:
      columns: int32 [R, C], the live columns of each row, rising; then dead ones, which are not walked.
      counts: int32 [R], how many of them are live.
    """

    columns: jax.Array
    counts: jax.Array


def lists(live: jax.Array) -> Lists:
    """Row by row the columns of the live blocks.

    Args:
      live: bool [R, C].

    Example:
      >>> found = lists(jnp.array([[False, True, True], [False, False, False]]))
      >>> found.columns[0, :2].tolist(), found.counts.tolist()
      ([1, 2], [2, 0])
    """
    columns = jnp.argsort(~live, axis=1, stable=True).astype(jnp.int32)
    return Lists(columns, jnp.sum(live, axis=1, dtype=jnp.int32))


class Walk(NamedTuple):
    """The live blocks of a grid one after the other.

    Attributes:
      cells: int32 [R * C], row * C + column, rising; then dead ones, which are not walked.
      length: int32, how many are walked, at least one.
    """

    cells: jax.Array
    length: jax.Array


def walk(live: jax.Array) -> Walk:
    """Row by row the live blocks; the first block, dead as it is, where there are none at all.

    Args:
      live: bool [R, C].

    Example:
      >>> found = walk(jnp.array([[False, True, True], [True, False, False]]))
      >>> found.cells[:3].tolist(), int(found.length)
      ([1, 2, 3], 3)
    """
    cells = jnp.argsort(~live.reshape(-1), stable=True).astype(jnp.int32)
    return Walk(cells, jnp.maximum(jnp.sum(live, dtype=jnp.int32), 1))


def spread(live: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Flags of blocks -> mask of entries.

    Args:
      live: bool [R, C].
      shape: of the matrix, multiples of R and C.

    Example:
      >>> spread(jnp.array([[True, False]]), (1, 4)).astype(int).tolist()
      [[1, 1, 0, 0]]
    """
    tall, wide = shape[0] // live.shape[0], shape[1] // live.shape[1]
    return jnp.repeat(jnp.repeat(live, tall, axis=0), wide, axis=1)
