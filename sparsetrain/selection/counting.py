"""How many magnitudes reach a threshold: five thresholds in one pass at the speed of reading.

A reduction over 32 neighbours that adds one-bit results, packed into the five 6-bit fields of one
word, is what XLA's CPU backend turns into wide vector code. A plain sum of a comparison, or a
reduction with five outputs, takes ten times as long.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sparsetrain.selection import shards
from sparsetrain.selection.pattern import magnitude_patterns
from sparsetrain.selection.shards import AxisName

PROBES = 5  # thresholds a pass
GROUP = 32  # neighbours whose counts, at most 32 each, share a word
FIELD_BITS = 6
SMALL = 1 << 17  # leaves below this size are counted together, as one


def count_at_least(leaves: Sequence[jax.Array], thresholds: jax.Array) -> jax.Array:
    """Counts the magnitudes at or above each threshold.

        count_i = sum over leaves of #{j : pattern(v_j) >= threshold_i}

    Args:
      leaves: arrays of any shape, floating or patterns already; 2^31 - 1 entries at most in all.
      thresholds: [5] patterns.

    Returns:
      [5] int32.

    Example:
      >>> import jax.numpy as jnp
      >>> thresholds = magnitude_patterns(jnp.array([1.0, 2.0, 3.0, 4.0, 0.0]))
      >>> count_at_least([jnp.array([-1.0, 2.0, 3.0])], thresholds).tolist()
      [3, 2, 1, 0, 3]
    """
    total = jnp.zeros((PROBES,), jnp.int32)
    for leaf in leaves:
        total = total + _count_of_leaf(leaf.reshape(-1), thresholds)
    return total


def _count_of_leaf(values: jax.Array, thresholds: jax.Array) -> jax.Array:
    grouped = values.shape[0] // GROUP * GROUP
    # Thresholds are scalars each: a vector of them would be indexed again for every entry.
    probes = [thresholds[i] for i in range(PROBES)]
    shifts = FIELD_BITS * jnp.arange(PROBES, dtype=jnp.uint32)

    def fields(values: jax.Array) -> jax.Array:
        """Counts along the last axis, of at most 32 entries, as fields of one word."""
        patterns = magnitude_patterns(values)
        packed = jnp.zeros(patterns.shape, jnp.uint32)
        for i, probe in enumerate(probes):
            packed = packed + ((patterns >= probe).astype(jnp.uint32) << (FIELD_BITS * i))
        return jnp.sum(packed, axis=-1, dtype=jnp.uint32)

    def counts(fields: jax.Array) -> jax.Array:
        """[5, ...] of one field each."""
        shifted = fields[None] >> shifts.reshape((PROBES,) + (1,) * fields.ndim)
        return (shifted & ((1 << FIELD_BITS) - 1)).astype(jnp.int32)

    of_groups = counts(fields(values[:grouped].reshape(-1, GROUP)))
    return jnp.sum(of_groups, axis=1, dtype=jnp.int32) + counts(fields(values[grouped:]))


def merge_small(leaves: Sequence[jax.Array]) -> list[jax.Array]:
    """The same magnitudes in fewer arrays: small leaves become one array of patterns.

    Biases and scales are most of a model's leaves and few of its entries; a pass over each of them
    by itself costs more than the counting.

    Args:
      leaves: floating arrays of any shape.

    Returns:
      Flat arrays: the large leaves, then the patterns of all small ones. The order of entries
      changes, so this serves counts only.

    Example:
      >>> import jax.numpy as jnp
      >>> [a.shape for a in merge_small([jnp.ones(3), jnp.ones((500, 300)), jnp.ones(2)])]
      [(150000,), (5,)]
    """
    large = [leaf.reshape(-1) for leaf in leaves if leaf.size >= SMALL]
    small = [magnitude_patterns(leaf.reshape(-1)) for leaf in leaves if 0 < leaf.size < SMALL]
    if len(small) > 1:
        small = [jnp.concatenate(small)]
    return large + small


def sample(leaves: Sequence[jax.Array], every: int) -> jax.Array:
    """Patterns of about one entry in `every`, spread over all leaves.

    Args:
      leaves: flat arrays, floating or patterns.
      every: inverse of the fraction that is taken.

    Returns:
      [S] patterns, in runs of neighbours, which are cheap to read.

    Example:
      >>> import jax.numpy as jnp
      >>> sample([jnp.ones(10_000), jnp.ones(50)], 10).shape
      (1005,)
    """
    run = 64
    parts = []
    for leaf in leaves:
        stride = run * every
        rows = leaf.size // stride
        strided = leaf[: rows * stride].reshape(rows, stride)[:, :run].reshape(-1)
        tail = leaf[rows * stride :][: (leaf.size - rows * stride) // every]
        parts += [magnitude_patterns(strided), magnitude_patterns(tail)]
    return jnp.concatenate(parts)


def total_size(leaves: Sequence[jax.Array], axis_name: AxisName = None) -> int:
    """Number of entries, over all shards where an axis is named.

    Raises:
      ValueError: none, or more than an int32 counts.

    Example:
      >>> import jax.numpy as jnp
      >>> total_size([jnp.ones(3), jnp.ones((2, 2))])
      7
    """
    size = sum(leaf.size for leaf in leaves) * shards.number(axis_name)
    if not 1 <= size < 2**31:
        raise ValueError(f"{size} entries: give 1 to 2^31 - 1, for counts are int32")
    return size
