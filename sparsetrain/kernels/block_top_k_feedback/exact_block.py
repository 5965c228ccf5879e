"""Exactly k of a block, by compare and sum alone: one body for Mosaic GPU and TPU, and their interpreters.

A bisection on bit patterns finds the k-th largest magnitude, a second one on positions how many of its ties are
kept. No sort, no gather, no prefix sum: none of these lowers everywhere.
"""

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.kernels.pattern import magnitude_patterns

VALUE_BITS = 31  # of a float32 without its sign
POSITION_BITS = 13  # more than enough for the largest block, 4,096


def split(u: jax.Array, positions: jax.Array, keep: jax.Array | int) -> jax.Array:
    """Which entries of a block are kept.

    Args:
      u: float32, any shape, one block.
      positions: int32 of that shape: place in the block, below 2^POSITION_BITS. Ties are kept from the lowest on.
      keep: k, 1 <= k <= entries.

    Returns:
      bool of that shape, true exactly k times.
    """
    keep = jnp.int32(keep)
    patterns = magnitude_patterns(u)

    def goes_on(state: tuple[jax.Array, ...]) -> jax.Array:
        bit, _, reached = state
        return (bit >= 0) & (reached != keep)

    def higher(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        bit, threshold, reached = state
        candidate = threshold | (jnp.int32(1) << bit)
        count = _count(patterns >= candidate)
        is_enough = count >= keep
        return (
            bit - jnp.int32(1),
            jnp.where(is_enough, candidate, threshold),
            jnp.where(is_enough, count, reached),
        )

    # As soon as a threshold is reached exactly k times the bits below it do not matter.
    start = (jnp.int32(VALUE_BITS - 1), jnp.int32(0), jnp.int32(u.size))
    _, threshold, _ = lax.while_loop(goes_on, higher, start)
    is_tied = patterns == threshold
    wanted = keep - _count(patterns > threshold)

    def later(step: jax.Array, last: jax.Array) -> jax.Array:
        candidate = last | (jnp.int32(1) << (jnp.int32(POSITION_BITS - 1) - step))
        return jnp.where(_count(is_tied & (positions < candidate)) < wanted, candidate, last)

    # Position of the last tie that is kept. Without ties too many there is nothing to look for.
    surplus = _count(is_tied) > wanted
    steps = jnp.where(surplus, jnp.int32(POSITION_BITS), jnp.int32(0))
    last = lax.fori_loop(jnp.int32(0), steps, later, jnp.int32(0))
    last = jnp.where(surplus, last, jnp.int32(2**POSITION_BITS))
    return (patterns > threshold) | (is_tied & (positions <= last))


def _count(mask: jax.Array) -> jax.Array:
    return jnp.sum(mask.astype(jnp.int32))
