"""gTop-k: the sparse vectors of all workers, merged in pairs into one that is as sparse as each."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import collectives, varying
from sparsetrain.compress import entries
from sparsetrain.compress.compressor import Aggregate
from sparsetrain.compress.density import Density, check
from sparsetrain.compress.top_k import TopK
from sparsetrain.payload import beyond


class Pairs(NamedTuple):
    """A sparse vector of n entries in K slots.

    Attributes:
      indices: [K] int32, distinct; n or more in unused slots.
      values: [K] float, zero in unused slots.
    """

    indices: jax.Array
    values: jax.Array


def merge(a: Pairs, b: Pairs, size: int, count: jax.Array) -> Pairs:
    """The `count` largest entries of a + b, in as many slots as each has.

    Which of the two comes first makes no difference, not even to the last bit.

    Args:
      a: [K] slots.
      b: [K] slots.
      size: n, entries of the vector.
      count: int32 scalar, at most K.

    Returns:
      Rising positions; ties go to the lower one.

    Example:
      >>> a = Pairs(jnp.array([0, 2]), jnp.array([1.0, 4.0]))
      >>> b = Pairs(jnp.array([0, 3]), jnp.array([2.0, -2.0]))
      >>> [leaf.tolist() for leaf in merge(a, b, 5, jnp.int32(2))]
      [[0, 2], [3.0, 4.0]]
    """
    slots = a.indices.shape[0]
    indices, values = lax.sort(
        (jnp.concatenate([a.indices, b.indices]), jnp.concatenate([a.values, b.values])),
        num_keys=1,
    )
    # An index comes at most twice, the second time right behind the first.
    is_second = jnp.concatenate([jnp.zeros(1, bool), indices[1:] == indices[:-1]])
    second = jnp.where(is_second, values, 0)
    values = jnp.where(
        is_second, 0, values + jnp.concatenate([second[1:], jnp.zeros_like(second[:1])])
    )
    indices = jnp.where(is_second, size, indices)
    best = entries.largest(values, slots, count)
    chosen = indices.at[best.indices].get(mode="fill", fill_value=size)
    chosen = jnp.where(chosen < size, chosen, beyond(size, slots))
    return Pairs(*lax.sort((chosen, best.values), num_keys=1))


def merge_all(own: Pairs, size: int, count: jax.Array, axis_name: Any) -> tuple[Pairs, jax.Array]:
    """Merges the vectors of all workers in log2 W rounds, in which both partners do the same.

    Where W is no power of two, the workers beyond the last one first hand theirs to a partner.

    Args:
      own: this worker's vector.
      size: n.
      count: k, int32 scalar.
      axis_name: of the workers.

    Returns:
      The merged vector, the same on all workers; and [K] positions at which nothing of the vectors
      that this worker's was merged into has been dropped on the way.
    """
    workers = lax.psum(1, axis_name)
    rank = lax.axis_index(axis_name)
    power = 2 ** int(math.log2(workers))
    spare = workers - power
    nothing = Pairs(beyond(size, own.indices.shape[0]), jnp.zeros_like(own.values))

    def exchanged(message: Any, partners: list[int], takers: range, otherwise: Any) -> Any:
        """What comes from the partner, for those who take it."""
        arrived = lax.ppermute(message, axis_name, list(enumerate(partners)))
        takes = (rank >= takers.start) & (rank < takers.stop)
        return jax.tree.map(lambda new, old: jnp.where(takes, new, old), arrived, otherwise)

    # Every worker has a partner, be it itself: vmap knows no other permutations.
    everyone = list(range(workers))
    swapped = [*everyone[power:], *everyone[spare:power], *everyone[:spare]]
    merged = own
    if spare:
        theirs = exchanged(own, swapped, range(spare), nothing)
        merged = merge(own, theirs, size, count)
    path = merged.indices
    for distance in (2**i for i in range(int(math.log2(power)))):
        partners = [i ^ distance if i < power else i for i in everyone]
        theirs = exchanged(merged, partners, range(power), nothing)
        merged = merge(merged, theirs, size, count)
        at = jnp.searchsorted(merged.indices, path)
        is_kept = merged.indices.at[at].get(mode="fill", fill_value=size) == path
        path = jnp.where(is_kept, path, beyond(size, path.shape[0]))
    if spare:
        merged, path = exchanged((merged, path), swapped, range(power, workers), (merged, path))
    return merged, path


@dataclasses.dataclass(frozen=True)
class GlobalMerge(TopK):
    """See `global_merge_top_k`."""

    def aggregate_leaf(self, payload: Any, u: jax.Array, state: Any, axis_name: Any) -> Aggregate:
        sent = payload.to_dense()
        if axis_name is None:
            return Aggregate(sent, sent, state)
        count = lax.pmax(payload.count, axis_name)  # A silent worker has none.
        own = Pairs(payload.indices, payload.values)
        merged, path = merge_all(own, u.size, count, axis_name)
        merged = varying.agreed(axis_name, merged)
        mean = jnp.zeros((u.size,), u.dtype)
        mean = mean.at[merged.indices].set(
            merged.values / lax.psum(1, axis_name), mode="drop", unique_indices=True
        )
        arrived = jnp.zeros((u.size,), bool).at[path].set(True, mode="drop")
        accepted = jnp.where(arrived.reshape(u.shape), sent, 0)
        return Aggregate(mean.reshape(u.shape), accepted, state)

    def moved_bytes(self, payloads: Any, workers: int) -> int:
        """Pairs to a partner in each of log2 W rounds, twice more for one of a spare couple; and the result,
        in a ring, for `varying.agreed`.
        """
        size = sum(collectives.pair_bytes(payloads))
        rounds = int(math.log2(workers))
        sent = size * (rounds + (2 if workers > 2**rounds else 0))
        return sent + collectives.ring_bytes(size, workers)


def global_merge_top_k(density: Density) -> GlobalMerge:
    """gTop-k: top-k of every worker, merged in pairs, and cut to k again at every merge.

        s <- T_k(u_i);    in log2 W rounds: s <- T_k(s + s of the partner);    update = s / W

    The result has k entries of a tensor, however many workers there are, where the mean of top-k
    vectors has up to W k. It is not the exact top-k of the sum: what is dropped early may have
    mattered later.

    Args:
      density: fraction sent, 0 < density <= 1; or `warm_up(...)`, `scheduled(...)`.

    Returns:
      A compressor. Biased, needs error feedback: what does not arrive goes back into the memory.
      Neither an all-reduce nor an all-gather: log2 W messages of k entries; payloads count one of
      them. Any number of workers will do. Under `shard_map` an all-reduce of the result tells
      JAX that it is the same everywhere, which it cannot know of what came by `ppermute`.

    Raises:
      ValueError: density out of range or a plain function.

    Differs from the reference code:
      1. That counts as accepted what lies at a position of the result, even if this worker's part
         of it was dropped in an early merge and others brought the position back: such parts are
         lost there. Here they go back too, so that nothing is lost.
      2. Partners exchange, so that no broadcast follows.

    Reference: Shi et al., A Distributed Synchronous SGD Algorithm with Global Top-k Sparsification
    (arXiv 1901.04359).

    Example:
      >>> compressor = global_merge_top_k(1 / 3)
      >>> def one_round(u):
      ...     payload, state = compressor.compress(u, compressor.init(u))
      ...     return compressor.aggregate(payload, u, state, "workers")
      >>> u = jnp.array([[4.0, 1.0, 0.0], [1.0, 0.0, 2.0]])
      >>> done = jax.vmap(one_round, axis_name="workers")(u)
      >>> done.mean.tolist()
      [[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
      >>> done.accepted.tolist()                                             # the 2 goes back
      [[4.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    check(density)
    return GlobalMerge(density)
