"""Dynamic layer-wise sparsification (DLS): top-k of every layer, whose k move to one threshold."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import collectives, numerics, selection, varying
from sparsetrain.compress.compressor import Aggregate, check_floating
from sparsetrain.compress.layerwise_adjust import PAIRINGS, adjusted
from sparsetrain.compress.layerwise_split import largest_remainder, split
from sparsetrain.payload import SparseTree, golomb_parameter
from sparsetrain.selection.layer_entries import largest
from sparsetrain.selection.layer_ranks import in_this_shard, ranked
from sparsetrain.selection.layers import arrange
from sparsetrain.selection.shards import AxisName, number

WORKERS = ("shared", "local")


class LayerwiseState(NamedTuple):
    """State of `layerwise`."""

    step: jax.Array  # int32 scalar, rounds so far
    counts: jax.Array  # int32 [L], entries of each layer in the next round; they sum to K
    thresholds: jax.Array  # float [L], least magnitude that each layer sent in this round

    @staticmethod
    def across_workers() -> dict[str, str]:
        """Thresholds are where a search begins; counts are alike, unless each worker has its own."""
        return {"thresholds": "mean"}


@dataclasses.dataclass(frozen=True)
class Layerwise:
    """See `layerwise`."""

    density: float
    steps: int | None = 1
    interval: int = 1
    pairing: str = "extreme"
    k_min: int = 0
    workers: str = "shared"
    initial: tuple[float, ...] | None = None
    shards: AxisName = None

    def init(self, params: Any) -> LayerwiseState:
        check_floating(params)
        leaves = jax.tree.leaves(params)
        sizes = [leaf.size * number(self.shards) for leaf in leaves]
        k = selection.count(sum(sizes), self.density) if sum(sizes) else 0
        counts = split(sizes, k, self.k_min, self.initial)
        dtype = numerics.accumulator_dtype(jnp.result_type(*leaves)) if leaves else jnp.float32
        thresholds = jnp.zeros((len(sizes),), dtype)
        return LayerwiseState(jnp.int32(0), jnp.array(counts, jnp.int32), thresholds)

    def compress(self, u: Any, state: LayerwiseState) -> tuple[SparseTree, LayerwiseState]:
        leaves = [leaf.reshape(-1) for leaf in jax.tree.leaves(u)]
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(u))
        full = [i for i, leaf in enumerate(leaves) if leaf.size]
        here = sum(leaf.size for leaf in leaves)
        total = here * number(self.shards)
        step = state.step + 1
        if not full:
            nothing = jnp.zeros((0,), jnp.float32)
            payload = SparseTree(nothing, nothing.astype(jnp.int32), state.counts, shapes, 0)
            return payload, state._replace(step=step)
        slots = selection.count(total, self.density)
        layers = arrange([lax.stop_gradient(leaves[i]) for i in full], self.shards)
        where = jnp.array(full, jnp.int32)
        k = state.counts[where]
        # Layers' thresholds change little from round to round: the search begins there.
        at = ranked(layers, k, selection.magnitude_patterns(state.thresholds[where]))
        sent_k, sent_at = in_this_shard(layers, k, at)
        values, indices = largest(layers, sent_k, sent_at, min(slots, here))
        counts = state.counts if self.shards is None else state.counts.at[where].set(sent_k)
        payload = SparseTree(values, indices, counts, shapes, golomb_parameter(slots / total))

        def adjust() -> jax.Array:
            return adjusted(layers, k, at, self.steps, self.pairing, self.k_min)

        is_due = step % self.interval == 0
        after = adjust() if self.interval == 1 else varying.cond(is_due, adjust, lambda: k)
        sent = jnp.where(k > 0, selection.magnitude_of(at.least_in), 0)
        thresholds = state.thresholds.at[where].set(sent.astype(state.thresholds.dtype))
        return payload, LayerwiseState(step, state.counts.at[where].set(after), thresholds)

    def _slots(self, payloads: SparseTree) -> int:
        """K, in all shards."""
        total = payloads.entries * number(self.shards)
        return selection.count(total, self.density) if total else 0

    def decompress(self, payloads: SparseTree) -> list[jax.Array]:
        """The leaves in order: the payload does not know the tree's keys."""
        return payloads.to_dense()

    def aggregate(
        self, payloads: SparseTree, u: Any, state: LayerwiseState, axis_name: Any
    ) -> Aggregate:
        sent = jax.tree.unflatten(jax.tree.structure(u), payloads.to_dense())
        if axis_name is not None and self.workers == "shared":
            workers, slots = lax.axis_size(axis_name), self._slots(payloads)
            # Quotients and remainders apart: the sum of all workers' counts may overflow.
            whole, rest = divmod(state.counts, workers)
            whole = lax.psum(whole, axis_name)
            rest = lax.psum(rest, axis_name)
            counts = whole + largest_remainder(rest, workers, slots - jnp.sum(whole))
            state = state._replace(counts=counts)
        mean = jax.tree.unflatten(jax.tree.structure(u), collectives.mean(payloads, axis_name))
        return Aggregate(mean, sent, state)


def layerwise(
    density: float,
    steps: int | None = 1,
    *,
    interval: int = 1,
    pairing: str = "extreme",
    k_min: int = 0,
    workers: str = "shared",
    initial: Any = None,
    shards: AxisName = None,
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
        of the same u is exactly the global top-k, ties included.
      interval: rounds between adjustments.
      pairing: "extreme" exchanges between the two layers furthest apart; "sorted" pairs lowest with
        highest, second lowest with second highest, and so on.
      k_min: least entries of a layer; above 0 equality with the global top-k is out of reach.
      workers: with an axis name, "shared" takes the mean of the workers' counts, so all send alike;
        "local" leaves each its own.
      initial: densities of the leaves before the first adjustment, a list in their order or a tree
        like the parameters, such as `initial_densities` gives; only their proportions count. None:
        the same for all, which is layer-wise top-k.
      shards: mesh axes over which every layer is split, inside `shard_map`, `init` too. Thresholds
        and counts are those of whole layers, found by adding counts up; no layer is gathered. Each
        shard's payload has K slots, or as many as it has entries, since it may hold all.

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
    if initial is not None:
        initial = tuple(float(share) for share in jax.tree.leaves(initial))
        if not all(0.0 <= share <= 1.0 for share in initial) or not math.fsum(initial):
            raise ValueError(f"initial={initial}: densities lie between 0 and 1, not all of them 0")
    return Layerwise(float(density), steps, interval, pairing, k_min, workers, initial, shards)
