"""How many magnitudes of several arrays reach a threshold, and the samples and merged leaves that this is asked of."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sparsetrain.kernels.count_above import count_above
from sparsetrain.kernels.pattern import magnitude_patterns
from sparsetrain.selection import shards
from sparsetrain.selection.shards import AxisName

SMALL = 1 << 17  # leaves below this size are counted together, as one


def count_at_least(leaves: Sequence[jax.Array], thresholds: jax.Array) -> jax.Array:
    """Counts the magnitudes at or above each threshold.

        count_i = sum over leaves of #{j : pattern(v_j) >= threshold_i}

    Args:
      leaves: arrays of any shape, floating or patterns already; 2^31 - 1 entries at most in all.
      thresholds: [T] patterns, `count_above.per_pass()` or fewer for one pass.

    Returns:
      [T] int32.

    Example:
      >>> import jax.numpy as jnp
      >>> thresholds = magnitude_patterns(jnp.array([1.0, 2.0, 3.0, 4.0, 0.0]))
      >>> count_at_least([jnp.array([-1.0, 2.0, 3.0])], thresholds).tolist()
      [3, 2, 1, 0, 3]
    """
    total = jnp.zeros(thresholds.shape, jnp.int32)
    for leaf in leaves:
        total = total + count_above(leaf.reshape(-1), thresholds)
    return total


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
