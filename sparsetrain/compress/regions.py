"""Regions of the index space, one for each worker, in which workers have equally many entries to send.

Where the regions end is kept as quantiles of the positions sent, a fixed number of them: so a state has the
same shape for any number of workers, who read their own boundaries between the quantiles.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PARTS = 256  # between neighbouring quantiles: boundaries are exact for 2, 4, 8, .., 256 workers


def even(size: int) -> jax.Array:
    """Quantiles of positions that are spread evenly.

    Args:
      size: N, entries of the index space.

    Returns:
      [PARTS + 1] int32, from 0 to N.

    Example:
      >>> even(1024)[:3].tolist()
      [0, 4, 8]
    """
    return jnp.array([size * part // PARTS for part in range(PARTS + 1)], jnp.int32)


def quantiles(positions: jax.Array, used: jax.Array, size: int) -> jax.Array:
    """Quantiles of one worker's positions.

        q_i = positions[floor(i * used / PARTS)],    q_PARTS = N

    Args:
      positions: [K] int32, rising.
      used: int32 scalar, how many of them count.
      size: N.

    Returns:
      [PARTS + 1] int32; N throughout where none is used.

    Example:
      >>> quantiles(jnp.array([2, 3, 5, 7]), jnp.int32(4), 10)[jnp.array([0, 64, 128, 192, 256])].tolist()
      [2, 3, 5, 7, 10]
    """
    part = jnp.arange(PARTS + 1, dtype=jnp.int32)
    # Quotient and remainder apart: the product would overflow from eight million entries on.
    slot = used // PARTS * part + used % PARTS * part // PARTS
    found = positions.at[slot].get(mode="fill", fill_value=size)
    return jnp.where(slot < used, found, size)


def consensus(own: jax.Array, counts: jax.Array, before: jax.Array, axis_name: Any) -> jax.Array:
    """The mean over the workers that have something to send.

        floor(mean_i own_i)

    Args:
      own: [Q] int32 >= 0, of this worker.
      counts: bool scalar, whether this worker's are counted.
      before: [Q] int32, the result if nobody's are.
      axis_name: of the workers.

    Returns:
      [Q] int32, the same on all workers.

    Example:
      >>> mean = lambda own, counts: consensus(own, counts, jnp.array([9]), "workers")
      >>> jax.vmap(mean, axis_name="workers")(jnp.array([[4], [0], [7]]), jnp.array([True, False, True])).tolist()
      [[5], [5], [5]]
    """
    number = lax.psum(counts.astype(jnp.int32), axis_name)
    share = jnp.maximum(number, 1)
    own = jnp.where(counts, own, 0)
    # Quotients and remainders apart: the sum of all workers' positions may overflow.
    whole, rest = lax.psum((own // share, own % share), axis_name)
    return jnp.where(number > 0, whole + rest // share, before)


def boundaries(quantiles: jax.Array, workers: int) -> jax.Array:
    """Where the regions of so many workers begin, but for the first, which begins at 0.

    Args:
      quantiles: [PARTS + 1] int32, rising.
      workers: W.

    Returns:
      [W - 1] int32, rising; linear between two quantiles where W does not divide their number.

    Example:
      >>> boundaries(even(1024), 4).tolist(), boundaries(even(1024), 3).tolist()
      ([256, 512, 768], [341, 682])
    """
    part, rest = np.divmod(np.arange(1, workers, dtype=np.int32) * PARTS, workers)
    low, high = quantiles[part], quantiles[part + 1]
    gap = high - low
    return low + gap // workers * rest + gap % workers * rest // workers


def slots(
    positions: jax.Array, used: jax.Array, begins: jax.Array, room: int, turn: jax.Array
) -> jax.Array:
    """Which of a worker's entries go to which region.

    Where more belong to a region than it has slots, they take turns: each round begins with another
    one, so that none waits for ever.

    Args:
      positions: [K] int32, rising.
      used: int32 scalar, how many of them count.
      begins: [W - 1] int32, as from `boundaries`.
      room: C, slots of a region.
      turn: int32 scalar, rounds so far.

    Returns:
      [W, C] int32, places in `positions`; K in unused slots, which come last.

    Example:
      >>> slots(jnp.array([1, 2, 4, 9]), jnp.int32(4), jnp.array([5]), 2, jnp.int32(0)).tolist()
      [[0, 1], [3, 4]]
      >>> slots(jnp.array([1, 2, 4, 9]), jnp.int32(4), jnp.array([5]), 2, jnp.int32(1)).tolist()
      [[2, 0], [3, 4]]
    """
    inner = jnp.minimum(jnp.searchsorted(positions, begins).astype(jnp.int32), used)
    ends = jnp.concatenate([inner, used[None]])
    starts = jnp.concatenate([jnp.zeros_like(used)[None], inner])
    held = (ends - starts)[:, None]
    slot = jnp.arange(room, dtype=jnp.int32)[None]
    # The product may overflow, which makes it no worse a place to begin.
    first = jnp.where(held > room, turn * room, 0)
    place = starts[:, None] + (first + slot) % jnp.maximum(held, 1)
    return jnp.where(slot < held, place, positions.shape[0])
