"""DEFT's allocation: every tensor's share of the entries follows its norm, anew in every round."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import numerics, selection
from sparsetrain.compress.compressor import Aggregate, check_floating, worker_mean
from sparsetrain.compress.top_k import TreeState
from sparsetrain.payload import SparseTree


def allocation(norms: jax.Array, sizes: jax.Array, k: int) -> jax.Array:
    """Entries of each tensor, in descending order of the norms.

        k_l = max(1, floor(k_rest * norm_l / norm_rest)), at most N_l;    both rests shrink

    Args:
      norms: [L] float >= 0.
      sizes: [L] int32, at least 1.
      k: entries to give away.

    Returns:
      [L] int32; the maximum with 1 may push the sum above k, by less than L.

    Example:
      >>> allocation(jnp.array([1.0, 3.0]), jnp.array([9, 9]), 4).tolist()
      [1, 3]
    """
    order = jnp.argsort(-norms, stable=True)

    def give(rests: tuple[jax.Array, jax.Array], layer: jax.Array) -> Any:
        entries, norm = rests
        share = entries * norms[layer] / jnp.maximum(norm, jnp.finfo(norms.dtype).tiny)
        given = jnp.clip(jnp.floor(share).astype(jnp.int32), 1, sizes[layer])
        return (jnp.maximum(entries - given, 0.0), norm - norms[layer]), given

    start = (jnp.asarray(k, norms.dtype), jnp.sum(norms))
    _, given = lax.scan(give, start, order)
    return jnp.zeros_like(sizes).at[order].set(given)


@dataclasses.dataclass(frozen=True)
class NormProportional:
    """See `norm_proportional`."""

    density: float

    def init(self, params: Any) -> TreeState:
        check_floating(params)
        return TreeState(jnp.zeros((), jnp.int32))

    def compress(self, u: Any, state: TreeState) -> tuple[SparseTree, TreeState]:
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(u))
        leaves = [leaf.reshape(-1) for leaf in jax.tree.leaves(u)]
        full = [i for i, leaf in enumerate(leaves) if leaf.size]
        parts, total = [leaves[i] for i in full], sum(leaf.size for leaf in leaves)
        k = selection.count(total, self.density) if total else 0
        slots = min(total, k + len(full))
        counts = jnp.zeros((len(leaves),), jnp.int32)
        if not full:
            nothing = jnp.zeros((0,), jnp.float32)
            payload = SparseTree(nothing, nothing.astype(jnp.int32), counts, shapes, 0)
            return payload, TreeState(state.step + 1)
        norms = jnp.stack([jnp.sqrt(jnp.sum(leaf * leaf)) for leaf in parts])
        given = allocation(norms, jnp.array([leaf.size for leaf in parts], jnp.int32), k)
        at = selection.ranked(parts, given)
        packed = selection.packed_masks(parts, given, at)
        values, indices, _ = selection.entries_of_packed(parts, packed, slots)
        is_used = jnp.arange(slots) < jnp.sum(given)
        values = jnp.where(is_used, values, jnp.zeros_like(values))
        counts = counts.at[jnp.array(full, jnp.int32)].set(given)
        indices = jnp.where(is_used, indices, 0)
        return SparseTree(values, indices, counts, shapes, None), TreeState(state.step + 1)

    def decompress(self, payloads: SparseTree) -> list[jax.Array]:
        """The leaves in order: the payload does not know the tree's keys."""
        return payloads.to_dense()

    def aggregate(
        self, payloads: SparseTree, u: Any, state: TreeState, axis_name: Any
    ) -> Aggregate:
        sent = jax.tree.unflatten(jax.tree.structure(u), payloads.to_dense())
        return Aggregate(worker_mean(sent, axis_name), sent, state)


def norm_proportional(density: float) -> NormProportional:
    """Top-k of every tensor, k in proportion to its norm: DEFT's one-shot rival of DLS.

    Args:
      density: fraction of all entries sent, 0 < density <= 1, a Python number.

    Returns:
      A compressor whose payload is one `SparseTree` with room for K + L entries, L tensors.

    Raises:
      ValueError: density out of range.

    Differs from the reference code:
      1. One worker selects from all tensors; its division of labour between workers (splitting large
         tensors, packing parts into bins) is left out.

    Reference: Yoon and Oh, DEFT (ICPP 2023), its reference code.

    Example:
      >>> u = {"a": jnp.array([30.0, 20.0, 10.0]), "b": jnp.array([0.3, 0.2, 0.1])}
      >>> compressor = norm_proportional(density=0.5)
      >>> compressor.compress(u, compressor.init(u))[0].counts.tolist()
      [2, 1]
    """
    numerics.check_density(density)
    return NormProportional(float(density))
