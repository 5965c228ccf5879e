"""Top-k through block maxima: reads the array once, then works on k blocks of it.

Exact, ties included. Let an entry x of the k chosen entries lie in block B that is not among the k
blocks of largest maximum, ties to the lower block. Each of those k blocks holds an entry as large
as the maximum of B or larger, and where it is equal the block, and so the entry, comes before x.
Then k entries go before x: a contradiction. Blocks must be runs of neighbours for this, and the
candidates must be ranked in the order of the array, not of their blocks' maxima.
"""

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.kernels.pattern import magnitude_of, magnitude_patterns, pattern_dtype
from sparsetrain.selection import threshold
from sparsetrain.selection.mask import top_k_mask_flat
from sparsetrain.selection.words import compact


def top_k_hierarchical(values: jax.Array, k: int, block: int = 16) -> tuple[jax.Array, jax.Array]:
    """The k largest magnitudes of an array, for k far below N / block.

    Blocks and candidates are chosen by counting, so that no order of the input is slow. (XLA's
    CPU heap behind `lax.top_k` takes ten times as long on ascending input as on shuffled input.)

    Args:
      values: floating, any shape, taken as one list.
      k: static, 1 <= k <= N.
      block: neighbours in a block. Up to 32, XLA's CPU backend reduces them as vectors.

    Returns:
      The same as `top_k_entries`: entries [k] and indices [k] int32, ascending.

    Raises:
      TypeError: the values are not floating.
      ValueError: k or block out of range, no entry at all, or float64 without x64.

    Example:
      >>> import jax.numpy as jnp
      >>> entries, indices = top_k_hierarchical(jnp.array([1.0, -3.0, 2.0, 0.0]), 1, block=2)
      >>> entries.tolist(), indices.tolist()
      ([-3.0], [1])
    """
    threshold.check_k(k, [values])
    if block < 1:
        raise ValueError(f"block={block}: give the number of neighbours in a block, at least 1")
    flat = values.reshape(-1)
    size = flat.shape[0]
    fixed = lax.stop_gradient(flat)
    blocks = -(-size // block)
    maxima = _block_maxima(fixed, block)
    chosen = compact(top_k_mask_flat(magnitude_of(maxima), min(k, blocks)), min(k, blocks))
    index = chosen[:, None] * block + lax.iota(jnp.int32, block)[None]
    index = index.reshape(-1)
    patterns = magnitude_patterns(fixed.at[index].get(mode="fill", fill_value=0))
    # Places beyond the array's end come last, as zeros: ties go to the real ones before them.
    kept = compact(top_k_mask_flat(magnitude_of(patterns), k), k)
    indices = index[kept]
    return flat.at[indices].get(mode="promise_in_bounds"), indices


def _block_maxima(values: jax.Array, block: int) -> jax.Array:
    """Patterns of the largest magnitude of each block [ceil(N / block)]."""
    whole = values.shape[0] // block * block
    rows = magnitude_patterns(values[:whole]).reshape(-1, block)
    maxima = jnp.max(rows, axis=1, initial=rows.dtype.type(0))
    if whole == values.shape[0]:
        return maxima
    rest = jnp.max(magnitude_patterns(values[whole:]), keepdims=True)
    return jnp.concatenate([maxima, rest]).astype(pattern_dtype(values))
