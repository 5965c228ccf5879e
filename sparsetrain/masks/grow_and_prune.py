"""Scheduled grow-and-prune (C-GaP): one part of the model is dense at a time, the rest stays sparse."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from sparsetrain import numerics, selection
from sparsetrain.masks import distribution as distributions
from sparsetrain.masks import schedule
from sparsetrain.masks import structure as structures
from sparsetrain.masks.drop_and_grow import among
from sparsetrain.masks.partition import Partitions, leaves_by_path
from sparsetrain.masks.random_masks import random_masks
from sparsetrain.masks.rule import Change, Rule, mask_error
from sparsetrain.masks.structure import NOfM
from sparsetrain.masks.wrapper import own_masks

SCOPES = ("model", "partition")


@dataclasses.dataclass(frozen=True, eq=False)
class GrowAndPruneRule(Rule):
    """When partitions are grown and pruned; see `grow_and_prune`."""

    density: float
    partitions: Partitions
    steps_per_phase: int
    count: int
    distribution: Any
    structure: Any
    scope: str
    order: str
    exclude_last: bool
    key: Any
    seed: int
    axis_name: Any
    growth: float
    restart: str = "all"
    # A single partition is pruned and grown again at once; so may be leaves that are drawn.
    regrows: bool = False

    def weights(self, params: Any) -> dict[str, jax.Array]:
        """Path -> leaf of all that is ever masked."""
        leaves = leaves_by_path(params)
        return {path: leaves[path] for path in self.partitions.assign(params)}

    def counts(self, shapes: dict[str, tuple[int, ...]]) -> list[int]:
        """Units kept of each leaf while it is sparse."""
        return distributions.counts(shapes, self.density, self.distribution, self.structure)

    def start(self, params: Any) -> dict[str, jax.Array]:
        weights = self.weights(params)
        shapes = {path: leaf.shape for path, leaf in weights.items()}
        masks = random_masks(weights, self.structure, self.counts(shapes), self.key)
        if self.growth == 1.0:
            return masks
        # What grows at once in the first phase is there from the start.
        grows, wider = self._table(masks)[1][0], self._widened(masks, jnp.int32(0))
        return {path: wider[path] if grows[i] else masks[path] for i, path in enumerate(masks)}

    def _widened(self, kept: dict[str, jax.Array], step: jax.Array) -> dict[str, jax.Array]:
        """Masks that grown leaves get: all ones, or as many more, drawn, as make up the density."""
        if self.growth == 1.0:
            return {path: jnp.ones_like(mask) for path, mask in kept.items()}
        keys = jax.random.split(jax.random.fold_in(self.key, step), len(kept))
        draws = [
            among(~mask, jax.random.uniform(own, mask.shape))
            for own, mask in zip(keys, kept.values(), strict=True)
        ]
        missing = [
            selection.count(mask.size, self.growth) - jnp.sum(mask, dtype=jnp.int32)
            for mask in kept.values()
        ]
        more = selection.top_k_mask_of_each(draws, jnp.maximum(jnp.stack(missing), 0))
        return {path: mask | new for (path, mask), new in zip(kept.items(), more, strict=True)}

    def _table(self, masks: Any) -> tuple[np.ndarray, np.ndarray]:
        """Leaves that are pruned, and grown, at each boundary: two of [phases + 1, L]."""
        phases = schedule.phases(
            self._owners(masks),
            self.partitions.names,
            self.count,
            self.steps_per_phase,
            self.order,
            self.seed,
            self.exclude_last,
        )
        return phases.changes(list(masks))

    def _owners(self, masks: Any) -> dict[str, str]:
        # The partitions were held to the parameters at `start`; the masks have their paths.
        return {path: self.partitions.owners(path)[0] for path in masks}

    def _is_mine(self, masks: Any) -> jax.Array:
        """[L] bool, whether a leaf is in the partition of this worker."""
        numbers = [self.partitions.names.index(owner) for owner in self._owners(masks).values()]
        return jnp.array(numbers, jnp.int32) == lax.axis_index(self.axis_name)

    def widens(self, step: jax.Array) -> jax.Array | None:
        if self.order == "parallel":
            # A round begins where the masks of all workers have been put together.
            return (step % self.steps_per_phase == 0) & (step < self.count * self.steps_per_phase)
        # The first phase grows at once, but `apply` needs the random masks until then.
        return step == 0 if self.growth == 1.0 else None

    def used(self, masks: Any, step: jax.Array) -> dict[str, jax.Array]:
        del step
        grows = self._is_mine(masks) if self.order == "parallel" else self._table(masks)[1][0]
        return {path: mask | grows[i] for i, (path, mask) in enumerate(masks.items())}

    def is_due(self, step: jax.Array) -> jax.Array:
        return (step % self.steps_per_phase == 0) & (step <= self.count * self.steps_per_phase)

    def change(
        self,
        weights: dict[str, jax.Array],
        masks: dict[str, jax.Array],
        gradients: dict[str, jax.Array],
        step: jax.Array,
        memory: Any,
    ) -> Change:
        del gradients, memory
        if self.order == "parallel":
            prune = self._is_mine(masks)
            grow = jnp.zeros_like(prune)
        else:
            prune, grow = (
                jnp.asarray(table)[step // self.steps_per_phase] for table in self._table(masks)
            )
            if self.distribution == "global" and self.scope == "model":
                # One threshold for all: leaves that are sparse already give up what falls under it.
                prune = jnp.ones_like(prune)
        shapes = {path: leaf.shape for path, leaf in weights.items()}
        live = {
            path: jnp.where(masks[path], leaf, jnp.zeros_like(leaf))
            for path, leaf in weights.items()
        }
        if self.distribution == "global":
            largest = self._under_one_threshold(live, prune)
        else:
            largest = structures.keep_largest(live, self.structure, self.counts(shapes))
        kept = {
            path: jnp.where(prune[i], masks[path] & largest[path], masks[path])
            for i, path in enumerate(live)
        }
        wider = self._widened(kept, step)
        new = {path: kept[path] | (wider[path] & grow[i]) for i, path in enumerate(live)}
        pruned = {
            path: jnp.where(prune[i], leaf, jnp.zeros_like(leaf))
            for i, (path, leaf) in enumerate(live.items())
        }
        return Change(new, mask_error(pruned, kept), kept)

    def _under_one_threshold(
        self, live: dict[str, jax.Array], prune: jax.Array
    ) -> dict[str, jax.Array]:
        """Masks of the leaves that are pruned now: what the model's budget leaves them, or their own."""
        units = [self.structure.units(leaf.shape) for leaf in live.values()]
        if self.scope == "model":
            # All are ranked together, zeros included.
            total = max(1, round(self.density * sum(units)))
            return structures.keep_largest_of_all(live, self.structure, total)
        candidates = {
            path: jnp.where(prune[i], leaf, jnp.zeros_like(leaf))
            for i, (path, leaf) in enumerate(live.items())
        }
        of_these = jnp.sum(jnp.where(prune, jnp.array(units, jnp.int32), 0))
        k = jnp.round(self.density * of_these.astype(jnp.float32)).astype(jnp.int32)
        return structures.keep_largest_of_all(candidates, self.structure, jnp.maximum(k, 1))


def grow_and_prune(
    inner: optax.GradientTransformation,
    density: float,
    partitions: Partitions,
    *,
    steps_per_phase: int,
    phases: int,
    key: Any,
    fine_tune: optax.GradientTransformation | None = None,
    distribution: Any = "uniform",
    structure: Any = "unstructured",
    scope: str = "model",
    order: str = "cyclic",
    exclude_last: bool = True,
    growth_density: float = 1.0,
    restart: bool = True,
    mask_gradients: bool = True,
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Trains one partition dense at a time, all others sparse, and prunes it when its phase ends.

        for t = 0 .. K-1:   prune S_(t-1 mod kappa) to its largest weights;  grow S_(t mod kappa): mask = 1
                            train `steps_per_phase` updates
        prune the last one;  fine-tune with all masks fixed

    Args:
      inner: optimizer of a phase; it starts anew at each, schedule included.
      density: fraction of weights kept while sparse, 0 < density <= 1.
      partitions: of `partitions(...)`, in the order in which they are grown.
      steps_per_phase: updates of a phase, as this wrapper sees them.
      phases: K, number of phases; the paper calls them steps.
      key: typed JAX key of the random first masks, and of the draws of order="random".
      fine_tune: optimizer after the last phase; None is `inner` from its start, so a learning-rate
        schedule must then be long enough for both. If its state is like the inner one's (both with a
        schedule, or both without), they share it.
      distribution: "uniform", "erk", "global" (one threshold), or path expression -> density.
      structure: "unstructured", `block(rows, columns)` or `n_m(n, m)`.
      scope: of "global": "model" ranks all weights of the model together, "partition" those that are
        pruned now.
      order: "cyclic"; "random" subsets of the leaves; or "parallel" (P-GaP): worker i of `axis_name`
        grows partition i in every phase, alone, and prunes it at its end, when `combine` must be
        called. `phases` are then rounds.
      exclude_last: of order="random", whether leaves just grown wait a phase.
      growth_density: fraction of its weights that a grown leaf has; below 1 those that come back are
        drawn at random (partial growth, which the paper's code has; single weights only).
      restart: whether the optimizer starts anew at each phase; False keeps its moments and counters.
      mask_gradients: False lets the inner optimizer see the gradients of masked weights, as the
        paper's code does.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks; it must come last in a chain. Call
      `params = masks.apply(params, state)` once after `init`. Grown weights start at zero.

    Raises:
      ValueError: an argument out of range; at `init`, partitions that do not fit the parameters.

    Differs from the paper:
      1. Exactly k weights are kept (`selection.count`); its code keeps those above a percentile.
      2. With distribution="global" and scope="model" every prune ranks all weights, and leaves that
         are already sparse lose what falls under the threshold, so that the model's density is met
         exactly. The paper does not say. With order="parallel" only the worker's own leaves are pruned.

    Reference: Ma et al., Effective Model Sparsification by Scheduled Grow-and-Prune Methods (arXiv
      2106.09857), Algorithm 1.

    Example:
      >>> from sparsetrain import masks
      >>> params = {"a": {"kernel": jnp.ones((4, 4))}, "b": {"kernel": jnp.ones((4, 4))}}
      >>> parts = masks.partitions({"first": r"a/.*", "second": r"b/.*"})
      >>> tx = masks.grow_and_prune(optax.sgd(0.1), 0.25, parts, steps_per_phase=2, phases=2, key=jax.random.key(0))
      >>> state = tx.init(params)
      >>> params = masks.apply(params, state)
      >>> for _ in range(4):
      ...     updates, state = tx.update(params, state, params)
      ...     params = optax.apply_updates(params, updates)
      ...     print({path: int(mask.sum()) for path, mask in state.masks.items()})
      {'a/kernel': 16, 'b/kernel': 4}
      {'a/kernel': 4, 'b/kernel': 16}
      {'a/kernel': 4, 'b/kernel': 16}
      {'a/kernel': 4, 'b/kernel': 4}
    """
    numerics.check_density(density)
    numerics.check_density(growth_density, "growth_density")
    if growth_density < 1.0 and (order == "parallel" or structure != "unstructured"):
        raise ValueError(
            f"growth_density={growth_density}: only unstructured masks grow in part, and not with "
            "order='parallel'; leave it 1.0"
        )
    if growth_density < density:
        raise ValueError(
            f"growth_density={growth_density}: must be at least density={density}, that of what is pruned"
        )
    structure = structures.named(structure)
    if scope not in SCOPES:
        raise ValueError(f"scope={scope!r}: choose one of {SCOPES}")
    if not isinstance(partitions, Partitions):
        raise TypeError(f"partitions={partitions!r}: give masks.partitions({{name: expression}})")
    if distribution == "global" and isinstance(structure, NOfM):
        raise ValueError("distribution='global': n:m masks keep the same density in every layer")
    rule = GrowAndPruneRule(
        float(density),
        partitions,
        steps_per_phase,
        phases,
        distribution,
        structure,
        scope,
        order,
        exclude_last,
        key,
        schedule.seed_of(key),
        axis_name,
        float(growth_density),
        restart="all" if restart else "none",
        regrows=len(partitions.names) == 1 or order == "random",
    )
    if order == "parallel" and axis_name is None:
        raise ValueError("order='parallel': name the axis of the workers in axis_name=")
    # Checks order, phases and steps before any parameter is seen.
    schedule.phases({"w": partitions.names[0]}, partitions.names, phases, steps_per_phase, order)
    return own_masks(
        inner,
        rule,
        fine_tune=fine_tune,
        fine_tune_after=phases * steps_per_phase,
        mask_gradients=mask_gradients,
        axis_name=axis_name,
    )
