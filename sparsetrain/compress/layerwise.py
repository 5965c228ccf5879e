"""Dynamic layer-wise sparsification (DLS): top-k of every layer, whose k move to one threshold."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import numerics, selection
from sparsetrain.compress.compressor import Aggregate, check_floating, worker_mean
from sparsetrain.compress.layerwise_adjust import PAIRINGS, adjusted, largest_remainder
from sparsetrain.payload import SparseTree, golomb_parameter
from sparsetrain.selection import packed_masks, ranked

WORKERS = ("shared", "local")


class LayerwiseState(NamedTuple):
    """State of `layerwise`."""

    step: jax.Array  # int32 scalar, rounds so far
    counts: jax.Array  # int32 [L], entries of each layer in the next round; they sum to K


@dataclasses.dataclass(frozen=True)
class Layerwise:
    """See `layerwise`."""

    density: float
    steps: int | None = 1
    interval: int = 1
    pairing: str = "extreme"
    k_min: int = 0
    workers: str = "shared"

    def init(self, params: Any) -> LayerwiseState:
        check_floating(params)
        sizes = [leaf.size for leaf in jax.tree.leaves(params)]
        total = sum(sizes)
        k = selection.count(total, self.density) if total else 0
        counts = _split(sizes, k, self.k_min)
        return LayerwiseState(jnp.zeros((), jnp.int32), jnp.array(counts, jnp.int32))

    def compress(self, u: Any, state: LayerwiseState) -> tuple[SparseTree, LayerwiseState]:
        leaves = [leaf.reshape(-1) for leaf in jax.tree.leaves(u)]
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(u))
        full = [i for i, leaf in enumerate(leaves) if leaf.size]
        total = sum(leaf.size for leaf in leaves)
        step = state.step + 1
        if not full:
            nothing = jnp.zeros((0,), jnp.float32)
            payload = SparseTree(nothing, nothing.astype(jnp.int32), state.counts, shapes, 0)
            return payload, LayerwiseState(step, state.counts)
        slots = selection.count(total, self.density)
        parts = [leaves[i] for i in full]
        where = jnp.array(full, jnp.int32)
        k = state.counts[where]
        at = ranked(parts, k)
        packed = packed_masks(parts, k, at)
        values, indices, _ = selection.entries_of_packed(parts, packed, slots)
        b = golomb_parameter(slots / total)
        payload = SparseTree(values, indices, state.counts, shapes, b)

        def adjust() -> jax.Array:
            return adjusted(parts, k, at, self.steps, self.pairing, self.k_min)

        is_due = step % self.interval == 0
        after = adjust() if self.interval == 1 else lax.cond(is_due, adjust, lambda: k)
        return payload, LayerwiseState(step, state.counts.at[where].set(after))

    def decompress(self, payloads: SparseTree) -> list[jax.Array]:
        """The leaves in order: the payload does not know the tree's keys."""
        return payloads.to_dense()

    def aggregate(
        self, payloads: SparseTree, u: Any, state: LayerwiseState, axis_name: Any
    ) -> Aggregate:
        sent = jax.tree.unflatten(jax.tree.structure(u), payloads.to_dense())
        if axis_name is not None and self.workers == "shared":
            slots = payloads.values.shape[0]
            summed = lax.psum(state.counts, axis_name)
            counts = largest_remainder(summed, lax.axis_size(axis_name), slots)
            state = state._replace(counts=counts)
        return Aggregate(worker_mean(sent, axis_name), sent, state)


def _split(sizes: list[int], k: int, k_min: int) -> list[int]:
    """k over the layers by size, by largest remainder, at least k_min (or its size) for each."""
    total = max(1, sum(sizes))
    least = [min(k_min, size) for size in sizes]
    if sum(least) > k:
        raise ValueError(
            f"k_min={k_min}: {len(sizes)} layers need {sum(least)} entries and the density gives {k}; "
            "lower k_min or raise the density"
        )
    exact = [k * size / total for size in sizes]
    counts = [
        min(size, max(floor, int(share)))
        for size, share, floor in zip(sizes, exact, least, strict=True)
    ]
    while sum(counts) != k:
        change = 1 if sum(counts) < k else -1
        free = [
            i
            for i, count in enumerate(counts)
            if (count < sizes[i] if change > 0 else count > least[i])
        ]
        chosen = max(free, key=lambda i: (change * (exact[i] - counts[i]), -i))
        counts[chosen] += change
    return counts


def layerwise(
    density: float,
    steps: int | None = 1,
    *,
    interval: int = 1,
    pairing: str = "extreme",
    k_min: int = 0,
    workers: str = "shared",
) -> Layerwise:
    """Layer-wise top-k whose layers move towards one common threshold: DLS, DLS(s).

        s_l = top_k(u_l, k_l),    sum_l k_l = K = max(1, round(density * N))
        k <- adjust(k, u),  used in the next round: entries go from the layer with the smallest
             selected entry to the one with the largest unselected entry, up to halfway

    Layers can be sent as soon as they are ready, since k_l is known before; and as thresholds meet,
    the union of their selections becomes the global top-k.

    Args:
      density: fraction of all entries sent, 0 < density <= 1, a Python number.
      steps: adjustments after a round, s of DLS(s); None is OPTIMALADJUSTMENT, whose next selection
        of the same u is exactly the global top-k.
      interval: rounds between adjustments.
      pairing: "extreme" exchanges between the two layers furthest apart; "sorted" pairs lowest with
        highest, second lowest with second highest, and so on.
      k_min: least entries of a layer; above 0 equality with the global top-k is out of reach.
      workers: with an axis name, "shared" takes the mean of the workers' counts, so all send alike;
        "local" leaves each its own.

    Returns:
      A compressor whose payload is one `SparseTree` of exactly K slots, of static shape while the
      layers' shares move. Its `decompress` returns the list of leaves.

    Raises:
      ValueError: an argument out of range.

    Differs from the paper:
      1. Its listings are not in the text we have (the abstract and the proofs). Pairing beyond two
         layers, the meaning of s, the rounding of counts, what workers share, and the lag of one
         round are our reading.
      2. Swaps that would bring in a smaller entry than they drop are left out, and at least one
         entry moves as long as the stopping test fails; so it ends, and ends at the global top-k.

    Reference: Zhang et al., dynamic layer-wise sparsification; its appendices on the adjustment.

    Example:
      >>> u = {"a": jnp.array([9.0, 8.0, 7.0, 6.0]), "b": jnp.array([1.0, 0.9, 0.8, 0.7])}
      >>> compressor = layerwise(density=0.5)
      >>> state = compressor.init(u)
      >>> payload, state = compressor.compress(u, state)
      >>> payload.counts.tolist(), state.counts.tolist()
      ([2, 2], [4, 0])
    """
    numerics.check_density(density)
    if steps is not None and steps < 1:
        raise ValueError(f"steps={steps}: must be at least 1, or None for the optimal adjustment")
    if interval < 1:
        raise ValueError(f"interval={interval}: must be at least 1, the rounds between adjustments")
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing={pairing!r}: choose one of {PAIRINGS}")
    if k_min < 0:
        raise ValueError(f"k_min={k_min}: must not be negative")
    if workers not in WORKERS:
        raise ValueError(f"workers={workers!r}: choose one of {WORKERS}")
    return Layerwise(float(density), steps, interval, pairing, k_min, workers)
