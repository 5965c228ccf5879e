"""Masks of the k largest magnitudes of whole arrays: exactly k ones, ties to the lower index."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import varying
from sparsetrain.kernels.pattern import magnitude_patterns, nan_pattern, pattern_dtype
from sparsetrain.selection import counting, shards, threshold, words
from sparsetrain.selection.bracket import Bracket
from sparsetrain.selection.shards import AxisName


def top_k_mask_flat(values: jax.Array, k: int | jax.Array) -> jax.Array:
    """Mask of the k largest magnitudes of an array, taken as one list.

    Equals `top_k_mask` of one long row, bit for bit, in time that does not grow with k.

    Args:
      values: floating, any shape.
      k: 1 <= k <= N; may be traced, then it is clipped to 0..N.

    Returns:
      Same shape, bool; of entries tied with the k-th largest those of lower flat index are kept.

    Raises:
      TypeError: the values are not floating.
      ValueError: a static k out of range, no entry at all, or float64 without x64.

    Example:
      >>> import jax.numpy as jnp
      >>> top_k_mask_flat(jnp.array([1.0, -2.0, 2.0, 1.0]), 3).astype(int).tolist()
      [1, 1, 1, 0]
    """
    threshold.check_k(k, [values])
    flat = lax.stop_gradient(values).reshape(-1)
    pattern, last = cut([flat], threshold.find_in_array(flat, k), k)
    return kept(flat, pattern, last[0]).reshape(values.shape)


def top_k_masks(
    leaves: Sequence[jax.Array], k: int | jax.Array, axis_name: AxisName = None
) -> tuple[list[jax.Array], jax.Array]:
    """Masks of the k largest magnitudes of several arrays together (global top-k).

    Arrays may be split over devices: counts cross them, entries do not.

    Args:
      leaves: floating arrays of any shape; float64 may not be mixed with others.
      k: counted over all leaves and shards, 1 <= k <= N; may be traced, then it is clipped to 0..N.
      axis_name: mesh axes over which every leaf is split, inside `shard_map`.

    Returns:
      masks: one per leaf, bool, with k ones in all shards; ties go to the earlier leaf, then to the
        earlier shard, then to the lower flat index. For leaves split along their first axis these are
        the masks of the whole leaves.
      counts: [L] int32, ones of each mask, in this shard.

    Raises:
      TypeError: a leaf is not floating.
      ValueError: a static k out of range, no entry at all, or float64 that does not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> masks, counts = top_k_masks([jnp.array([1.0, 3.0]), jnp.array([3.0, 3.0])], 2)
      >>> [mask.astype(int).tolist() for mask in masks], counts.tolist()
      ([[0, 1], [1, 0]], [1, 1])
    """
    threshold.check_k(k, leaves, axis_name)
    flat = [lax.stop_gradient(leaf).reshape(-1) for leaf in leaves]
    pattern, last = cut(flat, threshold.find(flat, k, axis_name), k, axis_name)
    masks = [kept(leaf, pattern, last[i]) for i, leaf in enumerate(flat)]
    counts = [jnp.sum(words.ones(words.pack(mask)), dtype=jnp.int32) for mask in masks]
    shaped = [mask.reshape(leaf.shape) for mask, leaf in zip(masks, leaves, strict=True)]
    return shaped, jnp.stack(counts)


def cut(
    leaves: Sequence[jax.Array], bracket: Bracket, k: int | jax.Array, axis_name: AxisName = None
) -> tuple[jax.Array, jax.Array]:
    """How to keep exactly k entries: a pattern, and the last index in each leaf that may tie it.

    Args:
      leaves: [N_l] floating.
      bracket: exact, for this k clipped to 1..N.
      k: 0 keeps nothing.
      axis_name: of the shards, see `top_k_masks`.

    Returns:
      pattern: entries above are kept, and those equal up to
      last: [L] int32, an index in each leaf; -1 for none, N_l for all.
    """
    sizes = jnp.array([leaf.shape[0] for leaf in leaves], jnp.int32)
    k = jnp.clip(jnp.asarray(k, jnp.int32), 0, counting.total_size(leaves, axis_name))

    def among_ties() -> jax.Array:
        held = lax.optimization_barrier(list(leaves))
        tied = [words.pack(magnitude_patterns(leaf) == bracket.lower) for leaf in held]
        ties = jnp.stack([jnp.sum(words.ones(packed), dtype=jnp.int32) for packed in tied])
        of_leaf = shards.total(ties, axis_name)
        before = jnp.cumsum(of_leaf, dtype=jnp.int32) - of_leaf
        if axis_name is not None:
            before = before + shards.earlier(ties, axis_name)
        wanted = jnp.clip(k - bracket.at_upper - before, 0, ties)
        none = jnp.zeros((), jnp.int32)
        last = [
            words.select(packed, wanted[i]) if packed.size else none
            for i, packed in enumerate(tied)
        ]
        return jnp.where(wanted == 0, -1, jnp.where(wanted == ties, sizes, jnp.stack(last)))

    last = varying.cond(bracket.at_lower > k, among_ties, lambda: sizes)
    dtype = pattern_dtype(*leaves)
    nothing = jnp.asarray(nan_pattern(dtype) + 1, dtype)
    return jnp.where(k > 0, bracket.lower, nothing), last


def kept(values: jax.Array, pattern: jax.Array, last: jax.Array) -> jax.Array:
    """The mask that a cut means: [N] -> [N] bool, one pass."""
    index = lax.iota(jnp.int32, values.shape[0])
    return magnitude_patterns(values) >= jnp.where(index <= last, pattern, pattern + 1)
