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


def split(
    u: jax.Array,
    positions: jax.Array,
    keep: jax.Array | int,
    *,
    exists: jax.Array | None = None,
    axes: tuple[int, ...] | None = None,
) -> jax.Array:
    """Which entries of a block are kept.

    Args:
      u: float32, any shape; one block, or several along the axes that `axes` leaves out.
      positions: int32 of that shape: place in the block, below 2^POSITION_BITS. Ties are kept from the lowest on.
      keep: k, 1 <= k <= entries; of several blocks one for all, or shaped to broadcast.
      exists: bool of that shape, false where a block has no entry; None where all are there, as in one
        block they must be.
      axes: of the entries of one block; None for all, and scalars in between.

    Returns:
      bool of that shape, true exactly k times in every block.
    """
    keep = jnp.asarray(keep, jnp.int32)
    patterns = magnitude_patterns(u)
    if exists is not None:
        patterns = jnp.where(exists, patterns, jnp.int32(-1))

    def count(mask: jax.Array) -> jax.Array:
        # Without axes no dimension may be left: a scalar is what a GPU's warps agree on.
        return jnp.sum(mask.astype(jnp.int32), axis=axes, keepdims=axes is not None)

    def in_any(flag: jax.Array) -> jax.Array:
        return flag if axes is None else jnp.max(flag.astype(jnp.int32)) > 0

    def goes_on(state: tuple[jax.Array, ...]) -> jax.Array:
        bit, _, reached = state
        return (bit >= 0) & in_any(reached != keep)

    def higher(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        bit, threshold, reached = state
        candidate = threshold | (jnp.int32(1) << bit)
        found = count(patterns >= candidate)
        # Not below k; and a threshold that is reached exactly k times stays.
        is_better = (found >= keep) & (reached != keep)
        return (
            bit - jnp.int32(1),
            jnp.where(is_better, candidate, threshold),
            jnp.where(is_better, found, reached),
        )

    # As soon as a threshold is reached exactly k times the bits below it do not matter.
    everyone = jnp.int32(u.size) if axes is None else count(patterns >= 0)
    start: tuple[jax.Array, ...] = (
        jnp.int32(VALUE_BITS - 1),
        jnp.zeros_like(everyone),
        everyone,
    )
    _, threshold, _ = lax.while_loop(goes_on, higher, start)
    is_tied = patterns == threshold
    wanted = keep - count(patterns > threshold)

    def later(step: jax.Array, last: jax.Array) -> jax.Array:
        candidate = last | (jnp.int32(1) << (jnp.int32(POSITION_BITS - 1) - step))
        return jnp.where(count(is_tied & (positions < candidate)) < wanted, candidate, last)

    # Position of the last tie that is kept. Without ties too many there is nothing to look for.
    surplus = count(is_tied) > wanted
    steps = jnp.where(in_any(surplus), jnp.int32(POSITION_BITS), jnp.int32(0))
    last = lax.fori_loop(jnp.int32(0), steps, later, jnp.zeros_like(wanted))
    last = jnp.where(surplus, last, jnp.int32(2**POSITION_BITS))
    return (patterns > threshold) | (is_tied & (positions <= last))
