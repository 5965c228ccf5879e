"""The k largest magnitudes as a list: values and positions, in the order of the array."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.selection import mask as masks
from sparsetrain.selection import threshold, words
from sparsetrain.selection.hierarchical import top_k_hierarchical
from sparsetrain.selection.pattern import magnitude_of, magnitude_patterns

CHUNK = 4096  # entries of one leaf that are fetched at a time

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


def top_k_entries_of(leaves: Sequence[jax.Array], k: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The k largest magnitudes of several arrays together, as one list of fixed length.

    How many a leaf has among them changes with the data; the shapes do not.

    Args:
      leaves: floating arrays of any shape; float64 may not be mixed with others.
      k: static, counted over all leaves, 1 <= k <= N.

    Returns:
      entries: [k], leaf after leaf, in the widest dtype of the leaves.
      indices: [k] int32, flat positions in their leaf, ascending within a leaf.
      counts: [L] int32, how many of them each leaf has. Ties go to the earlier leaf, then to the
        lower position.

    Raises:
      TypeError: a leaf is not floating.
      ValueError: k out of range, no entry at all, or float64 that does not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> entries, indices, counts = top_k_entries_of([jnp.array([1.0, -3.0]), jnp.array([2.0])], 2)
      >>> entries.tolist(), indices.tolist(), counts.tolist()
      ([-3.0, 2.0], [1, 0], [1, 1])
    """
    threshold.check_k(k, leaves)
    flat = [lax.stop_gradient(leaf).reshape(-1) for leaf in leaves]
    pattern, last = masks.cut(flat, threshold.find(flat, k), k)
    packed = [words.pack(masks.kept(leaf, pattern, last[i])) for i, leaf in enumerate(flat)]
    return entries_of_packed([leaf.reshape(-1) for leaf in leaves], packed, k)


def entries_of_packed(
    leaves: Sequence[jax.Array], packed: Sequence[jax.Array], k: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The entries of packed masks with k ones in all, as one list.

    Args:
      leaves: L flat arrays.
      packed: their masks as words, see `words.pack`.
      k: static, number of ones.

    Returns:
      entries, indices and counts, as of `top_k_entries_of`.

    Example:
      >>> leaves = [jnp.array([1.0, 3.0]), jnp.array([2.0])]
      >>> packed = [words.pack(jnp.array([False, True])), words.pack(jnp.array([True]))]
      >>> [part.tolist() for part in entries_of_packed(leaves, packed, 2)]
      [[3.0, 2.0], [1, 0], [1, 1]]
    """
    counts = jnp.stack([jnp.sum(words.ones(leaf), dtype=jnp.int32) for leaf in packed])
    # Words are 1/32 of the entries: these may be joined. Every leaf starts at a word of its own.
    joined = jnp.concatenate(packed)
    found = words.positions(joined, k, joined.shape[0] * words.WORD)
    starts = jnp.cumsum(counts, dtype=jnp.int32) - counts
    first, offsets = 0, []
    for leaf in packed:
        offsets.append(first)
        first += leaf.shape[0] * words.WORD
    begun = jnp.zeros((k,), jnp.int32).at[starts].add(1, mode="drop", indices_are_sorted=True)
    owner = words.running_sum(begun) - 1
    indices = found - jnp.array(offsets, jnp.int32)[owner]
    return _fetch(leaves, indices, starts, counts), indices, counts


def _fetch(
    leaves: Sequence[jax.Array], indices: jax.Array, starts: jax.Array, counts: jax.Array
) -> jax.Array:
    """Reads every slot from the leaf that owns it: chunks of slots, as many as a leaf has.

    A leaf's last chunk writes beyond its slots; the next leaf overwrites that.
    """
    k = indices.shape[0]
    dtype = jnp.result_type(*[leaf.dtype for leaf in leaves])
    padded = jnp.pad(indices, (0, CHUNK))
    entries = jnp.zeros((k + CHUNK,), dtype)
    for i, leaf in enumerate(leaves):
        if leaf.shape[0]:
            entries = _fetch_leaf(entries, leaf, padded, starts[i], counts[i])
    return entries[:k]


def _fetch_leaf(
    entries: jax.Array, leaf: jax.Array, indices: jax.Array, start: jax.Array, count: jax.Array
) -> jax.Array:
    width = min(CHUNK, leaf.shape[0])

    def fetch(chunk: jax.Array, entries: jax.Array) -> jax.Array:
        at = start + chunk * width
        places = lax.dynamic_slice(indices, (at,), (width,))
        read = leaf.at[places].get(mode="clip").astype(entries.dtype)
        return lax.dynamic_update_slice(entries, read, (at,))

    if leaf.shape[0] <= CHUNK:
        return fetch(jnp.zeros((), jnp.int32), entries)
    return lax.fori_loop(0, (count + width - 1) // width, fetch, entries)
