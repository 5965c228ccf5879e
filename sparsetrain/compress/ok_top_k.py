"""Ok-Topk: every worker sums up one region of the entries that reach a threshold, and sends on what is large."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import numerics, selection, varying
from sparsetrain.compress import entries, regions
from sparsetrain.compress.compressor import Aggregate, check_floating
from sparsetrain.compress.density import Density, capacity, check, count_at
from sparsetrain.compress.global_merge import Pairs
from sparsetrain.payload import SparseTree, beyond
from sparsetrain.selection import mask as masks
from sparsetrain.selection import threshold as thresholds
from sparsetrain.selection import words

LOCAL_SCALE, GLOBAL_SCALE = 1.012, 1.008  # by which thresholds are moved, as in the reference code
INDEX_BYTES = 4


class OkTopKState(NamedTuple):
    """State of `ok_top_k`."""

    step: jax.Array  # int32 scalar, rounds so far
    local_threshold: jax.Array  # float scalar, least magnitude that is sent in the next round
    global_threshold: (
        jax.Array
    )  # float scalar, least magnitude of a sum that is used, of all workers
    quantiles: jax.Array  # int32 [PARTS + 1], where regions end, see `regions`; of all workers


def room(k: int, size: int, workers: int = 1) -> int:
    """Slots for what a worker sends to one of W regions, and for what is used of a region.

        max(1, floor(3 k / (2 W)))

    (W - 1) of these pairs leave a worker twice, so that it sends fewer than 6 k words.

    Example:
      >>> room(100, 10_000), room(100, 10_000, 4), room(1, 10_000, 4), room(100, 100)
      (150, 37, 1, 100)
    """
    return min(size, max(1, 3 * k // (2 * workers)))


def nudged(
    threshold: jax.Array, count: jax.Array, least: Any, most: Any, scale: float
) -> jax.Array:
    """A threshold that is moved to where fewer, or more, will reach it.

    Args:
      threshold: float scalar.
      count: int32 scalar, how many reached it.
      least: below this count it is divided by `scale`.
      most: above this count it is multiplied by `scale`.
      scale: above 1.

    Returns:
      Float scalar.

    Example:
      >>> [float(nudged(jnp.float32(8), jnp.int32(n), 3, 5, 2.0)) for n in (2, 3, 5, 6)]
      [4.0, 8.0, 8.0, 16.0]
    """
    lower = jnp.where(count < least, threshold / scale, threshold)
    return jnp.where(count > most, threshold * scale, lower)


@dataclasses.dataclass(frozen=True)
class OkTopK:
    """See `ok_top_k`."""

    density: Density
    exact_every: int = 32
    regions_every: int = 64

    def init(self, params: Any) -> OkTopKState:
        check_floating(params)
        leaves = jax.tree.leaves(params)
        dtype = numerics.accumulator_dtype(jnp.result_type(*leaves)) if leaves else jnp.float32
        nothing = jnp.zeros((), dtype)
        size = sum(leaf.size for leaf in leaves)
        if size >= 2**31:
            raise ValueError(
                f"the tree has {size} entries: positions are int32; split it with optax.partition"
            )
        return OkTopKState(jnp.zeros((), jnp.int32), nothing, nothing, regions.even(size))

    def compress(self, u: Any, state: OkTopKState) -> tuple[SparseTree, OkTopKState]:
        leaves = jax.tree.leaves(u)
        shapes = tuple(leaf.shape for leaf in leaves)
        size = sum(leaf.size for leaf in leaves)
        if not size:
            nothing = jnp.zeros((0,), jnp.float32)
            counts = jnp.zeros((len(leaves),), jnp.int32)
            empty = SparseTree(nothing, nothing.astype(jnp.int32), counts, shapes)
            return empty, state._replace(step=state.step + 1)
        flat = jnp.concatenate([leaf.reshape(-1) for leaf in leaves])
        k = count_at(self.density, size, state.step)
        slots = room(capacity(self.density, size), size)
        kept, threshold = self._reaching(flat, k, slots, state)
        local = nudged(threshold, kept.used, k - k // 3, k + k // 4, LOCAL_SCALE)
        payload = entries.in_tree(kept, shapes)
        return payload, state._replace(
            step=state.step + 1, local_threshold=local.astype(state.local_threshold.dtype)
        )

    def _reaching(
        self, flat: jax.Array, k: int | jax.Array, slots: int, state: OkTopKState
    ) -> tuple[entries.Entries, jax.Array]:
        """What reaches the threshold, and the threshold: in some rounds that of the k largest."""
        size = flat.shape[0]
        stale = selection.magnitude_patterns(state.local_threshold.astype(flat.dtype))
        stale = jnp.maximum(stale, 1)  # the least pattern that is no zero

        def exact() -> tuple[jax.Array, jax.Array]:
            pattern, last = masks.cut([flat], thresholds.find_in_array(flat, k), k)
            return pattern, last[0]

        packed = words.pack(selection.magnitude_patterns(flat) >= stale)
        reaching = jnp.sum(words.ones(packed), dtype=jnp.int32)
        # A threshold that lets through more than there is room for is of no use any longer. The step
        # is an operand of `vmap`, so in simulation both are computed; a device takes its branch.
        is_exact = (state.step % self.exact_every == 0) | (reaching > slots)
        pattern, last = varying.cond(is_exact, exact, lambda: (stale, jnp.int32(size)))
        mask = masks.kept(flat, jnp.maximum(pattern, 1), last)
        return entries.where(flat, mask, slots), selection.magnitude_of(pattern)

    def decompress(self, payloads: SparseTree) -> list[jax.Array]:
        """The leaves in order: the payload does not know the tree's keys."""
        return payloads.to_dense()

    def aggregate(
        self, payloads: SparseTree, u: Any, state: OkTopKState, axis_name: Any
    ) -> Aggregate:
        structure = jax.tree.structure(u)
        if axis_name is None or not payloads.entries:
            sent = jax.tree.unflatten(structure, payloads.to_dense())
            return Aggregate(sent, sent, state)
        size, workers = payloads.entries, lax.axis_size(axis_name)
        slots = room(capacity(self.density, size), size, workers)
        # The round is the same everywhere, and known to be: else vmap would run both branches.
        turn = lax.pmax(state.step - 1, axis_name)
        state = self._with_regions(payloads, state, turn, axis_name)
        sent = self._split(payloads, state, slots, turn, workers)
        region = reduced(sent, size, axis_name)
        sums, state = self._result(region, size, slots, state, turn, axis_name)
        arrived = sums.at[sent.indices].get(mode="fill", fill_value=0) != 0
        accepted = jnp.zeros((size,), sent.values.dtype)
        accepted = accepted.at[sent.indices].set(
            jnp.where(arrived, sent.values, 0), mode="drop", unique_indices=True
        )
        mean, accepted = (
            jax.tree.unflatten(structure, payloads.shaped(flat))
            for flat in (sums / workers, accepted)
        )
        return Aggregate(mean, accepted, state)

    def _with_regions(
        self, payloads: SparseTree, state: OkTopKState, turn: jax.Array, axis_name: Any
    ) -> OkTopKState:
        """The state, with new regions where they are due."""

        def renewed() -> jax.Array:
            used = jnp.sum(payloads.counts)
            own = regions.quantiles(payloads.positions(), used, payloads.entries)
            return regions.consensus(own, used > 0, state.quantiles, axis_name)

        is_due = turn % self.regions_every == 0
        return state._replace(quantiles=varying.cond(is_due, renewed, lambda: state.quantiles))

    def _split(
        self, payloads: SparseTree, state: OkTopKState, slots: int, turn: jax.Array, workers: int
    ) -> Pairs:
        """What this worker sends to each region, in [W, C] slots."""
        positions, used = payloads.positions(), jnp.sum(payloads.counts)
        begins = regions.boundaries(state.quantiles, workers)
        place = regions.slots(positions, used, begins, slots, turn)
        is_used = place < positions.shape[0]
        # Distinct numbers in unused slots, so that scatters may take them for unique.
        unused = beyond(payloads.entries, workers * slots).reshape(workers, slots)
        found = positions.at[place].get(mode="fill", fill_value=0)
        values = payloads.values.at[place].get(mode="fill", fill_value=0)
        return Pairs(jnp.where(is_used, found, unused), values)

    def _result(
        self,
        region: Pairs,
        size: int,
        slots: int,
        state: OkTopKState,
        turn: jax.Array,
        axis_name: Any,
    ) -> tuple[jax.Array, OkTopKState]:
        """Sums of all regions that reach the global threshold, [N]; and the state with the next one."""
        k = jnp.asarray(count_at(self.density, size, turn), jnp.int32)

        def exact() -> jax.Array:
            # Counts cross the workers, entries do not: nothing more is sent in such a round.
            there_are = lax.psum(jnp.sum(region.values != 0, dtype=jnp.int32), axis_name)
            rank = jnp.minimum(k, jnp.maximum(there_are, 1))
            found = selection.kth_magnitude_of([region.values], rank, axis_name)
            return found.astype(state.global_threshold.dtype)

        is_due = turn % self.exact_every == 0
        threshold = varying.cond(is_due, exact, lambda: state.global_threshold)
        mask = (jnp.abs(region.values) >= threshold) & (region.values != 0)
        found = jnp.sum(mask, dtype=jnp.int32)
        everyone_fits = lax.pmax(found, axis_name) <= slots
        best = varying.cond(
            everyone_fits,
            lambda: entries.where(region.values, mask, slots),
            lambda: entries.largest(
                jnp.where(mask, region.values, 0), slots, jnp.minimum(found, slots)
            ),
        )
        own = region.indices.at[best.indices].get(mode="fill", fill_value=size)
        unused = beyond(size, slots) + lax.axis_index(axis_name) * slots
        own = jnp.where(own < size, own, unused)
        at, sums = varying.of_all(axis_name, (own, best.values))
        total = jnp.zeros((size,), sums.dtype)
        total = total.at[at].set(sums, mode="drop", unique_indices=True)
        count = lax.psum(found, axis_name)
        after = nudged(threshold, count, k - k // 3, k + k // 3, GLOBAL_SCALE)
        return total, state._replace(global_threshold=after)

    def moved_bytes(self, payloads: SparseTree, workers: int) -> int:
        """The slots of all other regions, and those of this region's result to all others; not the
        few words that say how many there are and, in some rounds, where regions end.
        """
        size = payloads.entries
        if not size:
            return 0
        pairs = room(capacity(self.density, size), size, workers)
        return 2 * (workers - 1) * pairs * (INDEX_BYTES + payloads.values.dtype.itemsize)


def reduced(sent: Pairs, size: int, axis_name: Any) -> Pairs:
    """Sums of what all workers sent to this one.

    Args:
      sent: [W, C] slots, C for each worker.
      size: N.
      axis_name: of the workers.

    Returns:
      [min(N, W C)] slots in rising order; sums are added up in the order of the workers.
    """
    positions, values = lax.all_to_all(tuple(sent), axis_name, split_axis=0, concat_axis=0)

    def add(worker: jax.Array, total: jax.Array) -> jax.Array:
        return total.at[positions[worker]].add(values[worker], mode="drop", unique_indices=True)

    # Regions have no fixed length, so every worker has room for all; the memory costs less than a sort.
    nothing = varying.over(varying.axes_of(positions, values), jnp.zeros((size,), values.dtype))
    total = lax.fori_loop(0, positions.shape[0], add, nothing)
    found = entries.where(total, total != 0, min(size, positions.size))
    return Pairs(found.indices, found.values)


def ok_top_k(density: Density, *, exact_every: int = 32, regions_every: int = 64) -> OkTopK:
    """Ok-Topk: sums of what is large at the workers, of which what is large in all is used.

        s_i = u_i where |u_i| >= t_i, else 0
        S = sum_i s_i, region by region, each at one worker;    update = S / W where |S| >= t, else 0

    Every worker sends its entries to the W workers in whose regions of the joined index space they
    lie, and each of these its sums above t to all: fewer than 6 k words leave a worker, however many
    there are, where gathering top-k vectors takes 2 (W - 1) k. Thresholds are found exactly in some rounds, t_i
    that of the k largest |u_i| and t that of the k largest |S|, k = max(1, round(density * N)).
    Between these they follow the counts:

        t_i <- 1.012 t_i  if count > 5 k / 4,    t_i / 1.012  if count < 2 k / 3
        t   <- 1.008 t    if count > 4 k / 3,    t / 1.008    if count < 2 k / 3

    Args:
      density: fraction of all entries sent, 0 < density <= 1; or `warm_up(...)`, `scheduled(...)`.
      exact_every: rounds from one exact threshold to the next.
      regions_every: rounds from one choice of regions to the next: quantiles of the positions that
        a worker sends, averaged over the workers, so that equally many entries lie in each.

    Returns:
      A compressor with a moving count; biased, needs error feedback. Accepted is what a worker sent
      and whose position is in the result; all else goes back. Its payload, one `SparseTree` with
      room for 3 k / 2 entries, counts what the worker selects; what moves is an all-to-all and an
      all-gather of floor(3 k / (2 W)) pairs for each of the others: 6 k (W - 1) / W words at the
      most, while there is a pair for everyone (W <= 3 k / 2). Without an axis name it sends what
      reaches t_i. Its `decompress` returns the list of leaves.

    Raises:
      ValueError: density out of range or a plain function, or rounds below 1; at `init`, a tree of
        2^31 entries or more.

    Differs from the paper and its reference code:
      1. Messages have a fixed number of slots. What finds none stays in the memory: of the entries
         for one region, which take turns in finding slots, and of a region's sums the smallest.
      2. The exact t comes from counts and not from gathering all sums, which would send up to
         2 W k words; the last step, in which workers even out their sums before they gather them,
         is left out for the regions do most of it.
      3. A worker also looks for its exact threshold when more than 3 k / 2 entries reach the old one;
         of entries tied with an exact one the first are taken.
      4. Regions are kept as 256 quantiles, and read between them for other numbers of workers. Whoever
         has nothing to send does not count in their mean.
      5. It compresses from the first round on, where the code begins with 512 dense ones.

    Reference: Li and Hoefler, Near-Optimal Sparse Allreduce for Distributed Deep Learning, PPoPP 2022
    (arXiv 2201.07598), and its reference code.

    Example:
      >>> compressor = ok_top_k(0.5)
      >>> def one_round(u):
      ...     payload, state = compressor.compress(u, compressor.init(u))
      ...     return compressor.aggregate(payload, u, state, "workers")
      >>> u = jnp.array([[4.0, 1.0, 0.0, 5.0], [1.0, 0.0, 2.0, 3.0]])
      >>> done = jax.vmap(one_round, axis_name="workers")(u)
      >>> done.mean.tolist()                                     # of the sums 4, 0, 2, 8 the two largest
      [[2.0, 0.0, 0.0, 4.0], [2.0, 0.0, 0.0, 4.0]]
      >>> done.accepted.tolist()                                             # the 2 goes back
      [[4.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 3.0]]
    """
    check(density)
    for name, value in (("exact_every", exact_every), ("regions_every", regions_every)):
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1, which is every round")
    return OkTopK(density, exact_every, regions_every)
