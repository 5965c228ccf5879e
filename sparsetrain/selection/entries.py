"""The k largest magnitudes as a list: values and positions, in the order of the array."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.kernels.pattern import magnitude_of, magnitude_patterns
from sparsetrain.selection import mask as masks
from sparsetrain.selection import threshold, words
from sparsetrain.selection.hierarchical import top_k_hierarchical
from sparsetrain.selection.layer_entries import largest
from sparsetrain.selection.layer_ranks import at_common_cut, in_this_shard
from sparsetrain.selection.layers import arrange
from sparsetrain.selection.shards import AxisName

# Where each way of `top_k_entries` is taken. Counting is the fastest at run time from some ten
# thousand entries on, but each call takes XLA seconds to compile, a heap hundredths of one, and a
# model has hundreds of tensors. So up to these sizes there is nothing to win by counting.
HEAP_SIZE = 1 << 17
HIERARCHY_SIZE, HIERARCHY_SPARSITY = 1 << 22, 256
HEAP_BLOCK = 16  # neighbours of which the heap sees the largest only


def top_k_entries(values: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k largest magnitudes of an array, taken as one list: entries and positions.

    Shapes decide the way: a heap for a small array, a heap over block maxima for few entries of a
    larger one, else counting. The result does not depend on it.

    Args:
      values: floating, any shape.
      k: static, 1 <= k <= N.

    Returns:
      entries: [k], the entries themselves, with sign, in the dtype of `values`.
      indices: [k] int32, their flat positions, ascending. Ties go to the lower position.

    Raises:
      TypeError: the values are not floating.
      ValueError: k out of range, no entry at all, or float64 without x64.

    Example:
      >>> import jax.numpy as jnp
      >>> entries, indices = top_k_entries(jnp.array([1.0, -3.0, 2.0]), 2)
      >>> entries.tolist(), indices.tolist()
      ([-3.0, 2.0], [1, 2])
    """
    threshold.check_k(k, [values])
    flat = values.reshape(-1)
    size = flat.shape[0]
    fixed = lax.stop_gradient(flat)
    is_sparse = k * HIERARCHY_SPARSITY <= size
    if size <= HEAP_SIZE:
        indices = _largest_by_heap(fixed, k)
        return flat.at[indices].get(mode="promise_in_bounds"), indices
    if is_sparse and size < HIERARCHY_SIZE:
        indices = _largest_by_blocks(fixed, k)
        return flat.at[indices].get(mode="promise_in_bounds"), indices
    if is_sparse:
        return top_k_hierarchical(flat, k)
    pattern, last = masks.cut([fixed], threshold.find_in_array(fixed, k), k)
    packed = words.pack(masks.kept(fixed, pattern, last[0]))
    indices = words.positions(packed, k, size)
    return flat.at[indices].get(mode="promise_in_bounds"), indices


def _largest_by_heap(values: jax.Array, k: int) -> jax.Array:
    """Ascending positions of the k largest magnitudes."""
    # Through patterns, which make NaN of all kinds alike: the heap would rank them.
    return lax.sort(lax.top_k(magnitude_of(magnitude_patterns(values)), k)[1])


def _largest_by_blocks(values: jax.Array, k: int) -> jax.Array:
    """The same, with a heap that sees one entry in 16 first; see `hierarchical` for why it is exact."""
    size = values.shape[0]
    blocks = -(-size // HEAP_BLOCK)
    padded = jnp.pad(values, (0, blocks * HEAP_BLOCK - size))
    rows = magnitude_patterns(padded).reshape(blocks, HEAP_BLOCK)
    maxima = magnitude_of(jnp.max(rows, axis=1))
    # In the order of the array, so that ties among the candidates go to the lower position.
    chosen = lax.sort(lax.top_k(maxima, min(k, blocks))[1])
    candidates = magnitude_of(rows.at[chosen].get(mode="promise_in_bounds")).reshape(-1)
    kept = lax.sort(lax.top_k(candidates, k)[1])
    return chosen[kept // HEAP_BLOCK] * HEAP_BLOCK + kept % HEAP_BLOCK


def top_k_entries_of(
    leaves: Sequence[jax.Array],
    k: int | jax.Array,
    axis_name: AxisName = None,
    slots: int | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The k largest magnitudes of several arrays together, as one list of fixed length.

    How many a leaf has among them changes with the data; the shapes do not.

    Args:
      leaves: floating arrays of any shape; float64 may not be mixed with others.
      k: counted over all leaves and shards, 1 <= k <= N; may be traced if `slots` is given, then it
        is clipped.
      axis_name: mesh axes over which every leaf is split, inside `shard_map`; counts cross them,
        entries do not.
      slots: static length S of the list, at least as many as are found; None for min(k, entries of
        this shard), since one shard may hold all.

    Returns:
      entries: [S], leaf after leaf, in the widest dtype of the leaves; zero in unused slots.
      indices: [S] int32, flat positions in their leaf, ascending within a leaf.
      counts: [L] int32, how many of them each leaf has, in this shard. Ties go to the earlier leaf,
        then to the earlier shard, then to the lower position.

    Raises:
      TypeError: a leaf is not floating.
      ValueError: k out of range, no entry at all, or float64 that does not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> entries, indices, counts = top_k_entries_of([jnp.array([1.0, -3.0]), jnp.array([2.0])], 2)
      >>> entries.tolist(), indices.tolist(), counts.tolist()
      ([-3.0, 2.0], [1, 0], [1, 1])
    """
    threshold.check_k(k, leaves, axis_name)
    if slots is None:
        slots = min(int(k), sum(leaf.size for leaf in leaves))
    full = [i for i, leaf in enumerate(leaves) if leaf.size]
    flat = [lax.stop_gradient(leaves[i]).reshape(-1) for i in full]
    layers = arrange(flat, axis_name)
    taken, at = at_common_cut(layers, threshold.find(flat, k, axis_name).lower, k)
    taken, at = in_this_shard(layers, taken, at)
    entries, indices = largest(layers, taken, at, slots)
    counts = jnp.zeros((len(leaves),), jnp.int32).at[jnp.array(full, jnp.int32)].set(taken)
    return entries, indices, counts
