"""Masks that never change: the lower baseline of every comparison, and pruning at initialisation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain import numerics
from sparsetrain.masks import distribution as distributions
from sparsetrain.masks.levels import Levels
from sparsetrain.masks.partition import leaves_by_path, prunable
from sparsetrain.masks.random_masks import random_masks
from sparsetrain.masks.rule import Change, Rule
from sparsetrain.masks.structure import named
from sparsetrain.masks.wrapper import own_masks


@dataclasses.dataclass(frozen=True, eq=False)
class StaticRule(Rule):
    """See `static`."""

    density: float
    dense: str | None
    distribution: Any
    structure: Any
    scores: Any
    key: Any

    def start(self, params: Any) -> dict[str, jax.Array]:
        leaves = leaves_by_path(params)
        weights = {path: leaves[path] for path in prunable(params, self.dense)}
        shapes = {path: leaf.shape for path, leaf in weights.items()}
        if self.scores is None:
            counts = distributions.counts(shapes, self.density, self.distribution, self.structure)
            return random_masks(weights, self.structure, counts, self.key)
        levels = Levels((self.density,), self.distribution, self.structure)
        levels.check(shapes)
        scored = leaves_by_path(self.scores)
        return levels.largest({path: scored[path] for path in weights}, 0)

    def is_due(self, step: jax.Array) -> jax.Array:
        return step < 0

    def change(
        self, weights: Any, masks: Any, gradients: Any, step: jax.Array, memory: Any
    ) -> Change:
        del weights, gradients, step, memory
        return Change(masks, jnp.zeros((), jnp.float32))


def static(
    inner: optax.GradientTransformation,
    density: float,
    *,
    key: Any = None,
    scores: Any = None,
    dense: str | None = None,
    distribution: Any = "uniform",
    structure: Any = "unstructured",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Keeps masks that are drawn, or chosen by scores, before training.

    Args:
      inner: the optimizer.
      density: fraction of weights kept, 0 < density <= 1.
      key: typed JAX key of random masks; not needed with scores.
      scores: tree like the parameters whose largest magnitudes are kept, such as the parameters
        themselves.
      dense: expression of paths that are never masked.
      distribution: "uniform", "erk", "global" (needs scores), or path expression -> density.
      structure: "unstructured", `block(rows, columns)` or `n_m(n, m)`.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks; see `grow_and_prune` for its place in a chain.

    Raises:
      ValueError: an argument out of range, neither key nor scores, or "global" without scores.

    Example:
      >>> from sparsetrain import masks
      >>> params = {"kernel": jnp.array([[1.0, -3.0], [2.0, 0.5]])}
      >>> tx = masks.static(optax.sgd(0.1), 0.5, scores=params)
      >>> masks.apply(params, tx.init(params))["kernel"].tolist()
      [[0.0, -3.0], [2.0, 0.0]]
    """
    numerics.check_density(density)
    if key is None and scores is None:
        raise ValueError("key: give a JAX key for random masks, or scores= to choose by")
    if distribution == "global" and scores is None:
        raise ValueError("distribution='global': random masks have no ranking; give scores=")
    chosen = named(structure)
    rule = StaticRule(float(density), dense, distribution, chosen, scores, key)
    return own_masks(inner, rule, axis_name=axis_name)
