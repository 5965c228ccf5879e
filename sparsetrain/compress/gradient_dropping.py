"""Gradient dropping: whatever exceeds a threshold that a small sample estimates."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import numerics, selection, varying
from sparsetrain.compress import entries
from sparsetrain.compress.compressor import Aggregate, LeafCompressor
from sparsetrain.compress.density import Density, capacity, check, count_at
from sparsetrain.compress.top_k import GlobalTopK, TreeState
from sparsetrain.payload import Payload, Sparse, SparseTree

SCOPES = ("tree", "tensor")


@dataclasses.dataclass(frozen=True, eq=False)
class Dropping:
    """What both scopes share: how one list of entries is cut.

    Attributes:
      density: fraction that the threshold aims at.
      sample: fraction looked at.
      least: entries looked at in any case.
      slack: slots, in multiples of what is aimed at.
    """

    density: Density
    sample: float
    least: int
    slack: float

    def keep(self, flat: jax.Array, step: jax.Array, key: Any) -> entries.Entries:
        """The entries of one list that reach the estimated threshold."""
        size = flat.shape[0]
        slots = min(size, math.ceil(self.slack * capacity(self.density, size)))
        drawn = min(size, max(round(self.sample * size), self.least))
        seen = sampled(flat, drawn, key)
        threshold = selection.kth_magnitude(seen, count_at(self.density, drawn, step))
        return reaching(flat, threshold, slots)


def sampled(flat: jax.Array, drawn: int, key: Any) -> jax.Array:
    """So many entries of a list: random ones with repetition, or evenly spread without a key.

    Example:
      >>> sampled(jnp.arange(6.0), 3, None).tolist()
      [0.0, 2.0, 4.0]
    """
    size = flat.shape[0]
    if drawn >= size:
        return flat
    if key is None:
        return flat[:: size // drawn][:drawn]
    return flat[jax.random.randint(key, (drawn,), 0, size, jnp.int32)]


def reaching(flat: jax.Array, threshold: jax.Array, slots: int) -> entries.Entries:
    """Slots for the entries at or above a threshold; for the largest of them if there are too many.

    Args:
      flat: [n] float.
      threshold: scalar; zeros are never kept, whatever it is.
      slots: K, static.

    Returns:
      The entries in rising order. Only where they exceed the slots does an exact selection run.

    Example:
      >>> reaching(jnp.array([3.0, 0.0, -2.0, 1.0]), 1.0, 2).values.tolist()
      [3.0, -2.0]
    """
    mask = (jnp.abs(flat) >= threshold) & (flat != 0)
    fits = jnp.sum(mask, dtype=jnp.int32) <= slots
    return varying.cond(
        fits,
        lambda: entries.where(flat, mask, slots),
        lambda: entries.largest(flat, slots, slots),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class TensorDropping(LeafCompressor):
    """See `gradient_dropping`, with a threshold for each tensor."""

    rule: Dropping
    key: Any = None

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        kept = self.rule.keep(u.reshape(-1), step, key)
        return Sparse(kept.indices, kept.used, u.shape, None, values=kept.values), state


@dataclasses.dataclass(frozen=True, eq=False)
class TreeDropping:
    """See `gradient_dropping`, with one threshold for all tensors."""

    rule: Dropping
    key: Any = None

    def init(self, params: Any) -> TreeState:
        return self._whole().init(params)

    def compress(self, u: Any, state: TreeState) -> tuple[SparseTree, TreeState]:
        leaves = jax.tree.leaves(u)
        shapes = tuple(leaf.shape for leaf in leaves)
        sizes = jnp.array([leaf.size for leaf in leaves], jnp.int32)
        new = TreeState(state.step + 1)
        if not any(leaf.size for leaf in leaves):
            nothing = jnp.zeros((0,), jnp.float32)
            empty = SparseTree(nothing, nothing.astype(jnp.int32), sizes, shapes)
            return empty, new
        key = None if self.key is None else jax.random.fold_in(self.key, state.step)
        flat = jnp.concatenate([leaf.reshape(-1) for leaf in leaves])
        kept = self.rule.keep(flat, state.step, key)
        return entries.in_tree(kept, shapes), new

    def decompress(self, payloads: SparseTree) -> list[jax.Array]:
        """The leaves in order: the payload does not know the tree's keys."""
        return self._whole().decompress(payloads)

    def aggregate(
        self, payloads: SparseTree, u: Any, state: TreeState, axis_name: Any
    ) -> Aggregate:
        return self._whole().aggregate(payloads, u, state, axis_name)

    def _whole(self) -> GlobalTopK:
        return GlobalTopK(self.rule.density)


def gradient_dropping(
    density: Density = 0.01,
    sample: float = 0.001,
    *,
    scope: str = "tree",
    slack: float = 2.0,
    least: int = 1000,
    key: Any = None,
) -> TensorDropping | TreeDropping:
    """Sends what reaches a threshold; the threshold is a quantile of a small sample.

        tau = k-th largest magnitude of m sampled entries,    k = round(density * m)
        C(u) = u where |u| >= tau, else 0

    Args:
      density: fraction that the threshold aims at, 0 < density <= 1; or `warm_up(...)`,
        `scheduled(...)`. The paper's drop ratio .99 is .01 here.
      sample: fraction of the entries that is looked at, 0 < sample <= 1.
      scope: "tree" has one threshold for all parameters; "tensor" one for each, which networks
        without layer normalisation need.
      slack: room in the payload, in multiples of density * n, at least 1. Where more entries reach
        the threshold the largest are sent.
      least: how many entries are looked at in any case, so that small tensors get a threshold too.
      key: a typed JAX key for a random sample; None looks at evenly spread entries.

    Returns:
      A compressor with a moving count; needs error feedback. Biased. Not all-reducible: workers
      send different positions. With scope "tree" the payload is one `SparseTree`.

    Raises:
      ValueError: an argument out of range, or an unknown scope.

    Differs from the paper:
      1. A payload has a fixed size, so the count is limited; see `slack`.

    Reference: Aji and Heafield, Sparse Communication for Distributed Gradient Descent (arXiv
    1704.05021).

    Example:
      >>> compressor = gradient_dropping(density=0.5, scope="tensor")
      >>> u = jnp.array([1.0, -3.0, 2.0, 0.0])
      >>> compressor.compress(u, compressor.init(u))[0].to_dense().tolist()
      [0.0, -3.0, 2.0, 0.0]
    """
    check(density)
    numerics.check_density(sample, "sample")
    if scope not in SCOPES:
        raise ValueError(f"scope={scope!r}: choose one of {SCOPES}")
    if not slack >= 1:
        raise ValueError(f"slack={slack}: must be at least 1, room for what the density asks for")
    if least < 1:
        raise ValueError(f"least={least}: must be at least 1, entries to look at")
    rule = Dropping(density, sample, least, slack)
    if scope == "tensor":
        return TensorDropping(rule, key)
    return TreeDropping(rule, key)
