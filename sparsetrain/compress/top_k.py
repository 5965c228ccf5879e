"""Top-k: the largest entries of every tensor, of every block, or of the whole tree."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsetrain import collectives, selection
from sparsetrain.compress import entries
from sparsetrain.compress.block_top_k import BlockTopK
from sparsetrain.compress.compressor import (
    Aggregate,
    LeafCompressor,
    check_floating,
)
from sparsetrain.compress.density import Density, ScheduledDensity, capacity, check, count_at
from sparsetrain.payload import Payload, Sparse, SparseTree, golomb_parameter
from sparsetrain.selection.shards import AxisName, number


def code_parameter(density: Density, count: int, total: int) -> int | None:
    """Parameter of the position code: fixed with the density, else found from the count on the way.

    k / n and not the density itself: in a tensor of few entries, rounding k up to 1 makes positions
    far denser than was asked for.
    """
    return None if isinstance(density, ScheduledDensity) else golomb_parameter(count / total)


@dataclasses.dataclass(frozen=True)
class TopK(LeafCompressor):
    """See `top_k`."""

    density: Density

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del key
        flat = u.reshape(-1)
        slots = capacity(self.density, flat.size)
        kept = entries.largest(flat, slots, count_at(self.density, flat.size, step))
        b = code_parameter(self.density, slots, flat.size)
        return Sparse(kept.indices, kept.used, u.shape, b, values=kept.values), state


def top_k(density: Density, *, block: int | None = None) -> TopK | BlockTopK:
    """The k largest magnitudes of every tensor, with their values: layer-wise top-k.

        C(u) = u where |u| is among the k largest of its tensor, else 0;    k = max(1, round(density * n))

    Args:
      density: fraction sent, 0 < density <= 1; or `warm_up(...)`, `scheduled(...)`.
      block: entries of a block in which the selection is made instead; None for the whole tensor.
        Cheaper and shardable, but further from the true top-k. With 1,024, 2,048 or 4,096 and error feedback
        one kernel selects and remembers where there is one, see `kernels.block_top_k_feedback`.

    Returns:
      A compressor. Biased, a contraction with delta = k / n; needs error feedback. Not
      all-reducible: workers send different positions.

    Raises:
      ValueError: density out of range or a plain function; a schedule together with blocks.

    Reference: Aji and Heafield (arXiv 1704.05021); Stich et al., Sparsified SGD with Memory (arXiv
    1809.07599).

    Example:
      >>> compressor = top_k(density=0.5)
      >>> u = jnp.array([1.0, -3.0, 2.0, 0.0])
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> payload.to_dense().tolist(), int(payload.payload_bits())       # 2 values, 4 bits of positions
      ([0.0, -3.0, 2.0, 0.0], 67)
    """
    check(density)
    if block is None:
        return TopK(density)
    if block < 1:
        raise ValueError(f"block={block}: must be at least 1, the number of entries of a block")
    if isinstance(density, ScheduledDensity):
        raise ValueError("block: a scheduled density cannot be kept block by block; leave one out")
    return BlockTopK(density, block)


class TreeState(NamedTuple):
    """State of a compressor that looks at the whole tree."""

    step: jax.Array  # int32 scalar, rounds so far


@dataclasses.dataclass(frozen=True)
class GlobalTopK:
    """See `global_top_k`."""

    density: Density
    shards: AxisName = None

    def init(self, params: Any) -> TreeState:
        check_floating(params)
        return TreeState(jnp.zeros((), jnp.int32))

    def compress(self, u: Any, state: TreeState) -> tuple[SparseTree, TreeState]:
        leaves = jax.tree.leaves(u)
        shapes = tuple(leaf.shape for leaf in leaves)
        total = sum(leaf.size for leaf in leaves)
        flat = [leaf.reshape(-1) for leaf in leaves]
        if self.shards is not None and total:
            return self._of_shard(flat, shapes, state)
        slots = capacity(self.density, max(1, total)) if total else 0
        k = count_at(self.density, max(1, total), state.step)
        values, indices, counts = selection.top_k_entries_of(flat, slots)
        if not isinstance(k, int):
            values, indices, counts = largest_of_slots(values, indices, counts, k)
        b = code_parameter(self.density, slots, total) if total else 0
        payload = SparseTree(values, indices, counts, shapes, b)
        return payload, TreeState(state.step + 1)

    def _of_shard(
        self, leaves: list[jax.Array], shapes: tuple[tuple[int, ...], ...], state: TreeState
    ) -> tuple[SparseTree, TreeState]:
        """What this shard has of the K largest: none, or all of them."""
        here = sum(leaf.size for leaf in leaves)
        total = here * number(self.shards)
        most = capacity(self.density, total)
        k = count_at(self.density, total, state.step)
        found = selection.top_k_entries_of(leaves, k, self.shards, min(most, here))
        payload = SparseTree(*found, shapes, code_parameter(self.density, most, total))
        return payload, TreeState(state.step + 1)

    def decompress(self, payloads: SparseTree) -> list[jax.Array]:
        """The leaves in order: the payload does not know the tree's keys."""
        return payloads.to_dense()

    def aggregate(
        self, payloads: SparseTree, u: Any, state: TreeState, axis_name: Any
    ) -> Aggregate:
        sent = jax.tree.unflatten(jax.tree.structure(u), payloads.to_dense())
        mean = jax.tree.unflatten(jax.tree.structure(u), collectives.mean(payloads, axis_name))
        return Aggregate(mean, sent, state)


def largest_of_slots(
    values: jax.Array, indices: jax.Array, counts: jax.Array, k: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The k largest of the slots of a `SparseTree`, moved to the front; the others are left unused.

    Args:
      values: [K] float.
      indices: [K] int32 within their leaf.
      counts: [L] int32, sum K.
      k: int32 scalar, at most K.

    Returns:
      Values, indices and counts for k used slots.

    Example:
      >>> values, indices, counts = jnp.array([1.0, 3.0, 2.0]), jnp.array([4, 5, 0]), jnp.array([2, 1])
      >>> largest_of_slots(values, indices, counts, jnp.int32(2))[2].tolist()
      [1, 1]
    """
    by_size = selection.top_k_columns(values[None], values.shape[0])[0]
    slots = jnp.arange(values.shape[0], dtype=jnp.int32)
    is_kept = jnp.zeros(values.shape, bool).at[by_size].set(slots < k, unique_indices=True)
    ends = jnp.cumsum(counts)
    leaf = jnp.searchsorted(ends, slots, side="right")
    kept_counts = jnp.zeros(counts.shape, jnp.int32).at[leaf].add(is_kept.astype(jnp.int32))
    front = jnp.cumsum(is_kept.astype(jnp.int32)) - 1
    place = jnp.where(is_kept, front, values.shape[0] + slots)
    moved = [
        jnp.zeros_like(each).at[place].set(each, mode="drop", unique_indices=True)
        for each in (values, indices)
    ]
    return moved[0], moved[1], kept_counts


def global_top_k(density: Density, *, shards: AxisName = None) -> GlobalTopK:
    """The K largest magnitudes of the whole tree: the form that layer-wise selection approximates.

        C(u) = u where |u| is among the K largest of all tensors, else 0;    K = max(1, round(density * N))

    The common threshold is found by counting leaf by leaf, without concatenation and without a
    sort. A tensor may get no entry at all.

    Args:
      density: fraction of all entries sent, 0 < density <= 1; or `warm_up(...)`, `scheduled(...)`.
      shards: mesh axes over which every tensor is split, inside `shard_map`. Counts are added over
        them, and no tensor is gathered; each shard's payload has K slots, or as many as it has
        entries, since it may hold all of the largest.

    Returns:
      A compressor whose payload is one `SparseTree` of exactly K slots. Its `decompress` returns
      the list of leaves.

    Raises:
      ValueError: density out of range or a plain function.

    Example:
      >>> u = {"a": jnp.array([3.0, 2.5]), "b": jnp.array([1.0, 0.5])}
      >>> compressor = global_top_k(density=0.5)
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> [leaf.tolist() for leaf in compressor.decompress(payload)]
      [[3.0, 2.5], [0.0, 0.0]]
    """
    check(density)
    return GlobalTopK(density, shards)
