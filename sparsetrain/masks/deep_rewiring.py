"""Deep rewiring (DeepR): weights with fixed signs walk at random, and connections die at zero."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain import numerics, selection
from sparsetrain.masks.drop_and_grow import among
from sparsetrain.masks.partition import leaves_by_path
from sparsetrain.masks.random_masks import random_start
from sparsetrain.masks.rule import Change, Rule, mask_error
from sparsetrain.masks.wrapper import own_masks

SCOPES = ("model", "leaf")


@dataclasses.dataclass(frozen=True, eq=False)
class DeepRewiringRule(Rule):
    """See `deep_rewiring`; the memory holds the signs, True for plus."""

    density: float
    learning_rate: float
    l1: float
    temperature: float
    until: int | None
    scope: str
    dense: str | None
    distribution: Any
    key: Any
    restart: str = "grown"
    regrows: bool = True
    sows: bool = True

    def start(self, params: Any) -> dict[str, jax.Array]:
        return random_start(params, self.density, self.dense, self.distribution, self.key)

    def remember(self, params: Any, masks: Any) -> Any:
        leaves = leaves_by_path(params)
        keys = jax.random.split(jax.random.fold_in(self.key, 0), len(masks))
        # Who begins alive has the sign of its first value, all others one that is drawn.
        return {
            path: jnp.where(
                masks[path], leaves[path] >= 0, jax.random.bernoulli(own, shape=mask.shape)
            )
            for own, (path, mask) in zip(keys, masks.items(), strict=True)
        }

    def is_due(self, step: jax.Array) -> jax.Array:
        return step > 0 if self.until is None else step <= self.until

    def change(
        self, weights: Any, masks: Any, gradients: Any, step: jax.Array, memory: Any
    ) -> Change:
        del gradients
        walks, wakes = jax.random.split(jax.random.fold_in(self.key, step))
        walk_keys, wake_keys = (jax.random.split(key, len(masks)) for key in (walks, wakes))
        heat = jnp.sqrt(2 * self.learning_rate * self.temperature)
        kept, values, draws = {}, {}, []
        for i, (path, mask) in enumerate(masks.items()):
            sign = jnp.where(memory[path], 1.0, -1.0)
            theta = sign * weights[path].astype(jnp.float32) - self.learning_rate * self.l1
            theta += heat * jax.random.normal(walk_keys[i], mask.shape)
            kept[path] = mask & ~(theta < 0)
            values[path] = jnp.where(kept[path], sign * theta, 0.0)
            draws.append(among(~kept[path], jax.random.uniform(wake_keys[i], mask.shape)))
        gone = [jnp.sum(masks[path] & ~kept[path], dtype=jnp.int32) for path in masks]
        if self.scope == "model":
            woken, _ = selection.top_k_masks(draws, sum(gone))
        else:
            woken = selection.top_k_mask_of_each(draws, jnp.stack(gone))
        new = {path: kept[path] | wake for path, wake in zip(masks, woken, strict=True)}
        live = {path: jnp.where(mask, weights[path], 0) for path, mask in masks.items()}
        nothing = {path: jnp.zeros_like(mask) for path, mask in masks.items()}
        return Change(new, mask_error(live, kept), nothing, values, memory)


def deep_rewiring(
    inner: optax.GradientTransformation,
    density: float,
    *,
    key: Any,
    learning_rate: float,
    l1: float = 1e-4,
    temperature: float = 0.0,
    until: int | None = None,
    scope: str = "model",
    dense: str | None = None,
    distribution: Any = "uniform",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """A random walk over connections: who crosses zero dies, and another wakes, at every update.

        w = s theta, s fixed,    theta <- theta - eta dE/dtheta - eta alpha + sqrt(2 eta T) nu
        theta < 0: dormant; as many dormant ones, drawn uniformly, wake with theta = 0

    Args:
      inner: the optimizer, which makes the first step (-eta dE/dtheta).
      density: of the model, 0 < density <= 1; the total never changes.
      key: typed JAX key of the first masks, the signs, the walk and who wakes.
      learning_rate: eta of the other two steps.
      l1: alpha, pull towards zero.
      temperature: T of the walk; 0 for none.
      until: updates after which masks stay and nothing walks; None for never.
      scope: where those who wake are drawn from: the whole "model", or "leaf" by leaf.
      dense: expression of paths that are never masked.
      distribution: first one: "uniform", "erk", or path expression -> density.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks; see `grow_and_prune` for its place in a chain. Every
      update draws and selects, so that it costs more than the others.

    Raises:
      ValueError: an argument out of range.

    Reference: Bellec et al., Deep Rewiring (arXiv 1711.05136).

    Example:
      >>> params = {"kernel": jnp.ones((8, 8))}
      >>> tx = deep_rewiring(optax.sgd(2.0), 0.25, key=jax.random.key(0), learning_rate=2.0)
      >>> state = tx.init(params)
      >>> params = {"kernel": params["kernel"] * state.masks["kernel"]}
      >>> updates, state = tx.update(params, state, params)              # all cross zero, 16 others wake
      >>> int(state.masks["kernel"].sum()), float(jnp.abs(optax.apply_updates(params, updates)["kernel"]).sum())
      (16, 0.0)
    """
    numerics.check_density(density)
    if not (learning_rate >= 0.0 and l1 >= 0.0 and temperature >= 0.0):
        raise ValueError(
            f"learning_rate={learning_rate}, l1={l1}, temperature={temperature}: must not be negative"
        )
    if scope not in SCOPES:
        raise ValueError(f"scope={scope!r}: choose one of {SCOPES}")
    if distribution == "global":
        raise ValueError("distribution='global': first masks are random; choose 'erk' or 'uniform'")
    rule = DeepRewiringRule(
        float(density), learning_rate, l1, temperature, until, scope, dense, distribution, key
    )
    return own_masks(inner, rule, axis_name=axis_name)
