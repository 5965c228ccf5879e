"""DEFT's allocation: every tensor's share of the entries follows its norm, anew in every round."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import collectives, numerics, selection, varying
from sparsetrain.compress.compressor import Aggregate, check_floating
from sparsetrain.compress.top_k import TreeState
from sparsetrain.payload import SparseTree
from sparsetrain.selection.layer_entries import largest
from sparsetrain.selection.layer_ranks import ranked
from sparsetrain.selection.layers import arrange


def allocation(norms: jax.Array, sizes: jax.Array, k: int) -> jax.Array:
    """Entries of each tensor, in descending order of the norms.

        k_l = max(1, floor(k_rest * norm_l / norm_rest)), at most N_l;    both rests shrink

    Args:
      norms: [L] float >= 0.
      sizes: [L] int32, at least 1.
      k: entries to give away.

    Returns:
      [L] int32; the maximum with 1 may push the sum above k, to k + L at the most.

    Example:
      >>> allocation(jnp.array([1.0, 3.0]), jnp.array([9, 9]), 4).tolist()
      [1, 3]
    """
    order = jnp.argsort(-norms, stable=True)
    ordered = norms[order]
    # Sums of what is left, not one sum less what is gone: the small norms would drown in that.
    rest = jnp.cumsum(ordered[::-1])[::-1]
    shares = ordered / jnp.maximum(rest, jnp.finfo(norms.dtype).tiny)

    def give(entries: jax.Array, layer: Any) -> tuple[jax.Array, jax.Array]:
        share, size = layer
        wished = jnp.floor(share * entries.astype(share.dtype)).astype(jnp.int32)
        # `entries` itself is a bound, so that float rounding cannot exceed the payload's slots.
        given = jnp.clip(jnp.minimum(wished, entries), 1, size)
        return jnp.maximum(entries - given, 0), given

    start = varying.over(varying.axes_of(norms), jnp.int32(k))
    _, given = lax.scan(give, start, (shares, sizes[order]))
    return jnp.zeros_like(sizes).at[order].set(given)


def split(sizes: Sequence[int], parts: int) -> list[tuple[int, int, int]]:
    """Cuts every tensor that has more than its share of all entries.

    Args:
      sizes: N_l, entries of each tensor.
      parts: P; tensors of more than sum(N_l) / P entries are cut in P parts as equal as possible.

    Returns:
      (tensor, first, last + 1) of every part, none of them empty.

    Example:
      >>> split([7, 2, 0], 3)
      [(0, 0, 3), (0, 3, 5), (0, 5, 7), (1, 0, 2)]
    """
    total, found = sum(sizes), []
    for tensor, size in enumerate(sizes):
        pieces = parts if size * parts > total else 1
        ends = [
            0,
            *itertools.accumulate(size // pieces + (i < size % pieces) for i in range(pieces)),
        ]
        found += [(tensor, a, b) for a, b in itertools.pairwise(ends) if a < b]
    return found


@dataclasses.dataclass(frozen=True)
class NormProportional:
    """See `norm_proportional`."""

    density: float
    parts: int = 1

    def init(self, params: Any) -> TreeState:
        check_floating(params)
        return TreeState(jnp.zeros((), jnp.int32))

    def compress(self, u: Any, state: TreeState) -> tuple[SparseTree, TreeState]:
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(u))
        leaves = [leaf.reshape(-1) for leaf in jax.tree.leaves(u)]
        where = split([leaf.size for leaf in leaves], self.parts)
        counts = jnp.zeros((len(leaves),), jnp.int32)
        if not where:
            nothing = jnp.zeros((0,), jnp.float32)
            payload = SparseTree(nothing, nothing.astype(jnp.int32), counts, shapes, 0)
            return payload, TreeState(state.step + 1)
        pieces = [leaves[tensor][first:end] for tensor, first, end in where]
        total = sum(leaf.size for leaf in leaves)
        k = selection.count(total, self.density, "floor")
        # At least one entry of each piece: one more than k for each at the most.
        slots = min(total, k + len(pieces))
        norms = jnp.stack([jnp.sqrt(jnp.sum(piece * piece)) for piece in pieces])
        given = allocation(norms, jnp.array([piece.size for piece in pieces], jnp.int32), k)
        layers = arrange(pieces)
        at = ranked(layers, given, jnp.zeros(given.shape, layers.rows.dtype))
        values, indices = largest(layers, given, at, slots)
        tensors, firsts, _ = (jnp.array(column, jnp.int32) for column in zip(*where, strict=True))
        slot = jnp.arange(slots, dtype=jnp.int32)
        piece = jnp.searchsorted(jnp.cumsum(given), slot, side="right")
        indices = indices + firsts.at[piece].get(mode="fill", fill_value=0)
        counts = counts.at[tensors].add(given)
        return SparseTree(values, indices, counts, shapes, None), TreeState(state.step + 1)

    def decompress(self, payloads: SparseTree) -> list[jax.Array]:
        """The leaves in order: the payload does not know the tree's keys."""
        return payloads.to_dense()

    def aggregate(
        self, payloads: SparseTree, u: Any, state: TreeState, axis_name: Any
    ) -> Aggregate:
        sent = jax.tree.unflatten(jax.tree.structure(u), payloads.to_dense())
        mean = jax.tree.unflatten(jax.tree.structure(u), collectives.mean(payloads, axis_name))
        return Aggregate(mean, sent, state)


def norm_proportional(density: float, *, parts: int = 1) -> NormProportional:
    """Top-k of every tensor, k in proportion to its norm: DEFT's one-shot rival of DLS.

        in descending order of the norms:  k_l = max(1, floor(k_rest ||u_l|| / norm_rest))

    Args:
      density: fraction of all entries sent, 0 < density <= 1, a Python number. k is rounded down.
      parts: in how many parts tensors of more than N / parts entries are cut first; each part has
        its own norm and its own k. As many as workers, in the reference code.

    Returns:
      A compressor whose payload is one `SparseTree`. At least one entry of each of L parts is sent,
      so they may be more than k in all: the payload has k + L slots, those left over unused. Its
      `decompress` returns the list of leaves.

    Raises:
      ValueError: density out of range, parts below 1.

    Differs from the reference code:
      1. Every worker selects from all parts; packing parts into bins, one for each worker, is left
         out, and with it the union of the bins' positions.
      2. k is at least 1; tensors are cut as evenly as possible.

    Reference: Yoon and Oh, DEFT (ICPP 2023), its reference code.

    Example:
      >>> u = {"a": jnp.array([30.0, 20.0, 10.0]), "b": jnp.array([0.3, 0.2, 0.1])}
      >>> compressor = norm_proportional(density=0.5)
      >>> compressor.compress(u, compressor.init(u))[0].counts.tolist()
      [2, 1]
    """
    numerics.check_density(density)
    if parts < 1:
        raise ValueError(f"parts={parts}: must be at least 1, which cuts no tensor")
    return NormProportional(float(density), parts)
