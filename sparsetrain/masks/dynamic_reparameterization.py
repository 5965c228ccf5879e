"""Dynamic sparse reparameterization (DSR): one threshold prunes, and layers trade what is free."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain import selection, varying
from sparsetrain.masks.drop_and_grow import among
from sparsetrain.masks.random_masks import random_start
from sparsetrain.masks.rigl import check
from sparsetrain.masks.rule import Change, Rule, mask_error
from sparsetrain.masks.wrapper import own_masks


def shares(total: jax.Array, weights: jax.Array, rooms: jax.Array) -> jax.Array:
    """Splits a total in proportion to weights, as far as there is room.

    Largest remainders; what does not fit is dealt again among those with room.

    Args:
      total: int32 scalar.
      weights: [L] int32, at least 1.
      rooms: [L] int32.

    Returns:
      [L] int32 with the sum min(total, sum of rooms), each at most its room.

    Example:
      >>> shares(jnp.int32(10), jnp.array([3, 1, 1]), jnp.array([4, 9, 9])).tolist()
      [4, 3, 3]
    """

    def is_left(given: jax.Array) -> jax.Array:
        return (jnp.sum(given) < total) & jnp.any(given < rooms)

    def deal(given: jax.Array) -> jax.Array:
        rest, room = total - jnp.sum(given), rooms - given
        heavy = jnp.where(room > 0, weights, 0)
        # Not in int32: the product of two counts would not fit.
        wanted = rest * (heavy / jnp.sum(heavy).astype(jnp.float32))
        whole = jnp.floor(wanted).astype(jnp.int32)
        single = rest - jnp.sum(whole)
        more = jnp.minimum(whole, room)
        order = jnp.argsort(jnp.where(more < room, whole - wanted, jnp.inf), stable=True)
        is_open = (more < room)[order]
        gets = is_open & (jnp.cumsum(is_open.astype(jnp.int32)) <= single)
        more = more.at[order].add(gets.astype(jnp.int32))
        # Float32 may round a share up: never more than the rest in all.
        return given + jnp.clip(rest - (jnp.cumsum(more) - more), 0, more)

    return varying.while_loop(is_left, deal, jnp.zeros_like(rooms))


@dataclasses.dataclass(frozen=True, eq=False)
class DynamicReparameterizationRule(Rule):
    """See `dynamic_reparameterization`."""

    density: float
    every: int
    until: int
    fraction: float
    threshold: float
    dense: str | None
    distribution: Any
    key: Any
    restart: str = "grown"

    def start(self, params: Any) -> dict[str, jax.Array]:
        return random_start(params, self.density, self.dense, self.distribution, self.key)

    def remember(self, params: Any, masks: Any) -> Any:
        del params, masks
        return jnp.float32(self.threshold)

    def is_due(self, step: jax.Array) -> jax.Array:
        return (step % self.every == 0) & (step < self.until)

    def change(
        self, weights: Any, masks: Any, gradients: Any, step: jax.Array, memory: Any
    ) -> Change:
        del gradients
        old = list(masks.values())
        live = {path: jnp.where(mask, weights[path], 0) for path, mask in masks.items()}
        active = jnp.stack([jnp.sum(mask, dtype=jnp.int32) for mask in old])
        above = jnp.stack(
            [
                jnp.sum(mask & ~(jnp.abs(leaf) < memory), dtype=jnp.int32)
                for mask, leaf in zip(old, live.values(), strict=True)
            ]
        )
        # At least one weight stays in every layer that has any: the largest.
        counts = jnp.maximum(above, jnp.minimum(active, 1))
        kept = selection.top_k_mask_of_each(
            [among(mask, leaf) for mask, leaf in zip(old, live.values(), strict=True)], counts
        )
        pruned = jnp.sum(active - counts)
        # Not where something was pruned just now, unless there is no other place.
        sizes = jnp.array([mask.size for mask in old], jnp.int32)
        free = jnp.where(jnp.sum(sizes - active) >= pruned, sizes - active, sizes - counts)
        grown_counts = shares(pruned, jnp.maximum(counts, 1), free)
        keys = jax.random.split(jax.random.fold_in(self.key, step), len(old))
        # Draws lie in [1, 2), those of places just pruned in [0, 1): taken last.
        draws = [
            jax.random.uniform(own, mask.shape) + (~mask).astype(jnp.float32)
            for own, mask in zip(keys, old, strict=True)
        ]
        grown = selection.top_k_mask_of_each(
            [among(~mask, draw) for mask, draw in zip(kept, draws, strict=True)], grown_counts
        )
        found = {path: a | b for path, a, b in zip(masks, kept, grown, strict=True)}
        wanted = self.fraction * jnp.sum(active).astype(jnp.float32)
        gone = pruned.astype(jnp.float32)
        factor = jnp.where(gone > 1.1 * wanted, 0.5, jnp.where(gone < 0.9 * wanted, 2.0, 1.0))
        before = dict(zip(masks, kept, strict=True))
        return Change(found, mask_error(live, before), memory=memory * factor)


def dynamic_reparameterization(
    inner: optax.GradientTransformation,
    density: float,
    *,
    key: Any,
    every: int,
    until: int,
    fraction: float = 0.01,
    threshold: float = 1e-3,
    dense: str | None = None,
    distribution: Any = "uniform",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Prunes all layers by one adaptive threshold and grows as many weights where most survive.

        prune |w| < H everywhere; N_p = fraction * active wanted:   pruned > 1.1 N_p: H <- H / 2
                                                                    pruned <  .9 N_p: H <- 2 H
        grow the pruned total at random places, layers in proportion to their survivors

    Args:
      inner: the optimizer; moments of grown weights start at zero.
      density: of the model, 0 < density <= 1; the total never changes.
      key: typed JAX key of the first masks and of the random places.
      every: updates between changes.
      until: updates after which masks stay.
      fraction: share of the active weights that a change should move.
      threshold: first H; it lives in the state's `memory`.
      dense: expression of paths that are never masked.
      distribution: first one: "uniform", "erk", or path expression -> density.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks; see `grow_and_prune` for its place in a chain.

    Raises:
      ValueError: an argument out of range.

    Differs from the reference code:
      1. What a full layer cannot take goes to the others in the same proportion.

    Reference: Mostafa and Wang, Parameter efficient training of deep convolutional neural networks by
      dynamic sparse reparameterization (arXiv 1902.05967), its reference code.

    Example:
      >>> params = {"a": {"kernel": jnp.ones((8, 8))}, "b": {"kernel": 1e-4 * jnp.ones((8, 8))}}
      >>> tx = dynamic_reparameterization(optax.sgd(0.0), 0.25, key=jax.random.key(0), every=1, until=9)
      >>> state = tx.init(params)
      >>> _, state = tx.update(params, state, params)
      >>> {path: int(mask.sum()) for path, mask in state.masks.items()}, float(state.memory)
      ({'a/kernel': 30, 'b/kernel': 2}, 0.0005000000237487257)
    """
    check(density, every, until, fraction, distribution)
    if not threshold > 0.0:
        raise ValueError(f"threshold={threshold}: must be above 0, a magnitude of small weights")
    rule = DynamicReparameterizationRule(
        float(density), every, until, fraction, threshold, dense, distribution, key
    )
    return own_masks(inner, rule, axis_name=axis_name)
