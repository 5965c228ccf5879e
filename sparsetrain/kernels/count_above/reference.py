"""The definition, and what runs where no kernel does: five thresholds in one pass at the speed of reading.

A reduction over 32 neighbours that adds one-bit results, packed into the five 6-bit fields of one
word, is what XLA's CPU backend turns into wide vector code. A plain sum of a comparison, or a
reduction with five outputs, takes ten times as long.
"""

import jax
import jax.numpy as jnp

from sparsetrain.kernels.pattern import magnitude_patterns

FIELDS = 5  # thresholds that share a word
GROUP = 32  # neighbours whose counts, at most 32 each, share it too
FIELD_BITS = 6


def count_above(values: jax.Array, thresholds: jax.Array) -> jax.Array:
    """See the package.

    Args:
      values: [N] floating or patterns.
      thresholds: [T] patterns, any number: a pass for every five.
    """
    number = thresholds.shape[0]
    found = [
        _counts(values, thresholds[begin : begin + FIELDS]) for begin in range(0, number, FIELDS)
    ]
    return found[0] if len(found) == 1 else jnp.concatenate(found)


def _counts(values: jax.Array, thresholds: jax.Array) -> jax.Array:
    grouped = values.shape[0] // GROUP * GROUP
    # Thresholds are scalars each: a vector of them would be indexed again for every entry.
    probes = [thresholds[i] for i in range(thresholds.shape[0])]
    shifts = FIELD_BITS * jnp.arange(len(probes), dtype=jnp.uint32)

    def fields(values: jax.Array) -> jax.Array:
        """Counts along the last axis, of at most 32 entries, as fields of one word."""
        patterns = magnitude_patterns(values)
        packed = jnp.zeros(patterns.shape, jnp.uint32)
        for i, probe in enumerate(probes):
            packed = packed + ((patterns >= probe).astype(jnp.uint32) << (FIELD_BITS * i))
        return jnp.sum(packed, axis=-1, dtype=jnp.uint32)

    def counts(fields: jax.Array) -> jax.Array:
        """[5, ...] of one field each."""
        shifted = fields[None] >> shifts.reshape((len(probes),) + (1,) * fields.ndim)
        return (shifted & ((1 << FIELD_BITS) - 1)).astype(jnp.int32)

    of_groups = counts(fields(values[:grouped].reshape(-1, GROUP)))
    return jnp.sum(of_groups, axis=1, dtype=jnp.int32) + counts(fields(values[grouped:]))
