"""The k_l largest entries of every layer, in the slots of one payload, while the k_l move."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import varying
from sparsetrain.kernels.pattern import magnitude_patterns
from sparsetrain.selection import words
from sparsetrain.selection.layer_ranks import Ranked, in_this_shard, ranked
from sparsetrain.selection.layers import ROW, Layers, arrange
from sparsetrain.selection.shards import AxisName
from sparsetrain.selection.words import WORD

Test = Callable[[jax.Array, jax.Array], jax.Array]  # patterns, cut -> bool

CHUNK = 4096  # entries of a large leaf that are fetched at a time


def largest(layers: Layers, k: jax.Array, at: Ranked, slots: int) -> tuple[jax.Array, jax.Array]:
    """Values and positions of the k_l largest magnitudes of each leaf, leaf after leaf.

    Args:
      layers: the leaves.
      k: [L] int32, 0 <= k_l <= N_l; their sum is at most `slots`.
      at: `ranked(layers, k)`; with shards, both of `in_this_shard`.
      slots: K, static, at least 1.

    Returns:
      values: [K], zero in unused slots, in the widest dtype of the leaves.
      indices: [K] int32, rising flat positions within the leaf, zero in unused slots. Of entries
        tied with the k_l-th largest those of lower position are taken.

    Example:
      >>> from sparsetrain.selection.layers import arrange
      >>> from sparsetrain.selection.layer_ranks import ranked
      >>> layers, k = arrange([jnp.array([1.0, -3.0, 3.0]), jnp.array([2.0])]), jnp.array([1, 1])
      >>> values, indices = largest(layers, k, ranked(layers, k, jnp.zeros(2, jnp.int32)), 3)
      >>> values.tolist(), indices.tolist()
      ([-3.0, 2.0, 0.0], [1, 0, 0])
    """
    packed, first_words = masks(layers, k, at)
    found = words.positions(packed, slots, packed.shape[0] * WORD)
    ends = jnp.cumsum(k, dtype=jnp.int32)
    slot = jnp.arange(slots, dtype=jnp.int32)
    owner = jnp.searchsorted(ends, slot, side="right").astype(jnp.int32)
    is_used = owner < k.shape[0]
    owner = jnp.minimum(owner, k.shape[0] - 1)
    indices = jnp.where(is_used, found - WORD * jnp.array(first_words, jnp.int32)[owner], 0)
    values = _fetch(layers, indices, owner, ends - k, k)
    return jnp.where(is_used, values, jnp.zeros_like(values)), indices


def top_k_mask_of_each(
    leaves: Sequence[jax.Array], k: Sequence[int] | jax.Array, axis_name: AxisName = None
) -> list[jax.Array]:
    """Masks of the k_l largest magnitudes of each array, all in the same passes.

    Args:
      leaves: floating arrays of any shape; float64 may not be mixed with others.
      k: [L], 0 <= k_l <= N_l, counted over all shards; may be traced, then it is clipped.
      axis_name: mesh axes over which every array is split, inside `shard_map`; counts cross them,
        entries do not.

    Returns:
      One mask per array, bool, its shape, with k_l ones in all shards; ties go to the earlier shard,
      then to the lower flat index, NaN counts as largest.

    Raises:
      TypeError: a leaf is not floating.
      ValueError: float64 that does not fit.

    Example:
      >>> masks = top_k_mask_of_each([jnp.array([1.0, -3.0, 3.0]), jnp.array([2.0])], [1, 0])
      >>> [mask.tolist() for mask in masks]
      [[False, True, False], [False]]
    """
    full = [i for i, leaf in enumerate(leaves) if leaf.size]
    found = [jnp.zeros(leaf.shape, bool) for leaf in leaves]
    if not full:
        return found
    layers = arrange([lax.stop_gradient(leaves[i]).reshape(-1) for i in full], axis_name)
    wanted = jnp.clip(jnp.asarray(k, jnp.int32)[jnp.array(full, jnp.int32)], 0, layers.sizes)
    at = ranked(layers, wanted, jnp.zeros(wanted.shape, layers.rows.dtype))
    packed, first_words = masks(layers, *in_this_shard(layers, wanted, at))
    for place, i in enumerate(full):
        size = leaves[i].size
        mine = packed[first_words[place] : first_words[place] + -(-size // WORD)]
        found[i] = words.unpack(mine, size).reshape(leaves[i].shape)
    return found


def masks(layers: Layers, k: jax.Array, at: Ranked) -> tuple[jax.Array, list[int]]:
    """Masks of the k_l largest of each leaf as words of 32 bits, joined; ties go to the lower index.

    Args:
      layers: the leaves.
      k: as for `largest`.
      at: as for `largest`.

    Returns:
      packed: [M] uint32, see `words.pack`; every leaf starts at a word of its own.
      first_words: [L] number of each leaf's first word.
    """
    cut = at.cut
    reaching, first_words = _packed(layers, lambda patterns, cut: patterns >= cut, cut)

    def without_surplus() -> jax.Array:
        """Of each leaf's ties only the first k_l - #{> cut}."""
        held = lax.optimization_barrier(cut)
        tied, _ = _packed(layers, lambda patterns, cut: patterns == cut, held)
        in_word = words.ones(tied)
        before = words.running_sum(in_word) - in_word
        starts = jnp.array(first_words, jnp.int32)
        begun = jnp.zeros(tied.shape, jnp.int32).at[starts].add(1, indices_are_sorted=True)
        leaf = words.running_sum(begun) - 1
        # Ties before the leaf, and those of the leaf that are taken.
        all_ties = jnp.concatenate([before, before[-1:] + in_word[-1:]])
        last_words = jnp.array([*first_words[1:], tied.shape[0]], jnp.int32)
        ties = all_ties[last_words] - before[starts]
        limit = before[starts] + ties - (at.reached - k)
        taken = jnp.clip(limit[leaf] - before, 0, in_word)
        last = words.nth_one(tied, jnp.maximum(taken - 1, 0)).astype(jnp.uint32)
        up_to = jnp.uint32(0xFFFFFFFF) >> (jnp.uint32(WORD - 1) - last)
        kept = jnp.where(taken > 0, tied & up_to, jnp.uint32(0))
        return (reaching & ~tied) | kept

    surplus = jnp.any(at.reached > k)
    return varying.cond(surplus, without_surplus, lambda: reaching), first_words


def _packed(layers: Layers, test: Test, cut: jax.Array) -> tuple[jax.Array, list[int]]:
    """Words of test(patterns, cut) of all leaves, and where each leaf's begin."""
    of_rows = test(layers.rows, cut[layers.owner][:, None])
    row_words = words.pack(of_rows.reshape(-1))
    parts, first_words, row, total = [], [], 0, 0
    for i, leaf in enumerate(layers.leaves):
        if i in layers.large:
            part = words.pack(test(magnitude_patterns(leaf), cut[i]))
        else:
            rows = -(-leaf.shape[0] // ROW)
            part = row_words[row * ROW // WORD : (row + rows) * ROW // WORD]
            row += rows
        first_words.append(total)
        total += part.shape[0]
        parts.append(part)
    return jnp.concatenate(parts), first_words


def _fetch(
    layers: Layers, indices: jax.Array, owner: jax.Array, starts: jax.Array, k: jax.Array
) -> jax.Array:
    """Reads every slot from the leaf that owns it: small ones by one gather, large ones in chunks."""
    slots = indices.shape[0]
    dtype = jnp.result_type(*[leaf.dtype for leaf in layers.leaves])
    firsts, flat, total = [], [], 0
    for i, leaf in enumerate(layers.leaves):
        firsts.append(total)
        if i not in layers.large:
            flat.append(leaf.astype(dtype))
            total += leaf.shape[0]
    values = jnp.zeros((slots,), dtype)
    if flat:
        at = jnp.array(firsts, jnp.int32)[owner] + indices
        values = jnp.concatenate(flat).at[at].get(mode="clip")
    values, indices = jnp.pad(values, (0, CHUNK)), jnp.pad(indices, (0, CHUNK))
    for i in layers.large:
        values = _fetch_leaf(values, layers.leaves[i], indices, starts[i], k[i])
    return values[:slots]


def _fetch_leaf(
    values: jax.Array, leaf: jax.Array, indices: jax.Array, start: jax.Array, count: jax.Array
) -> jax.Array:
    place = jnp.arange(CHUNK, dtype=jnp.int32)

    def fetch(chunk: jax.Array, values: jax.Array) -> jax.Array:
        at = start + chunk * CHUNK
        read = leaf.at[lax.dynamic_slice(indices, (at,), (CHUNK,))].get(mode="clip")
        old = lax.dynamic_slice(values, (at,), (CHUNK,))
        new = jnp.where(place < count - chunk * CHUNK, read.astype(values.dtype), old)
        return lax.dynamic_update_slice(values, new, (at,))

    values = varying.over(varying.axes_of(leaf, indices, start, count), values)
    return lax.fori_loop(0, (count + CHUNK - 1) // CHUNK, fetch, values)
