"""Magnitude pruning in several steps, each with training behind it."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain import numerics
from sparsetrain.masks.levels import Levels
from sparsetrain.masks.partition import leaves_by_path, prunable
from sparsetrain.masks.rule import Change, Rule, mask_error
from sparsetrain.masks.structure import NOfM, named
from sparsetrain.masks.wrapper import own_masks


@dataclasses.dataclass(frozen=True, eq=False)
class IterativeRule(Rule):
    """See `iterative`."""

    at: tuple[int, ...]
    levels: Levels
    dense: str | None
    restart: str = "none"

    def start(self, params: Any) -> dict[str, jax.Array]:
        leaves = leaves_by_path(params)
        shapes = {path: leaves[path].shape for path in prunable(params, self.dense)}
        self.levels.check(shapes)
        return {path: jnp.ones(shape, bool) for path, shape in shapes.items()}

    def is_due(self, step: jax.Array) -> jax.Array:
        return jnp.any(step == jnp.array(self.at))

    def change(
        self, weights: Any, masks: Any, gradients: Any, step: jax.Array, memory: Any
    ) -> Change:
        del gradients, memory
        live = {path: jnp.where(masks[path], leaf, 0) for path, leaf in weights.items()}
        largest = self.levels.largest(live, jnp.sum(step > jnp.array(self.at)))
        new = {path: largest[path] & masks[path] for path in masks}
        return Change(new, mask_error(live, new))


def iterative(
    inner: optax.GradientTransformation,
    density: float,
    *,
    at: int,
    before: Sequence[tuple[int, float]] = (),
    fine_tune: optax.GradientTransformation | None = None,
    dense: str | None = None,
    distribution: Any = "uniform",
    structure: Any = "unstructured",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Prunes weights by magnitude in several steps, and trains on after each.

        after at_s updates:   m = the largest density_s of all weights |m w|,    s = 1, 2, ...

    Args:
      inner: the optimizer before the last pruning.
      density: fraction of weights kept at the end, 0 < density <= 1.
      at: updates before the last pruning.
      before: (updates, density) of the prunings before it, in their order.
      fine_tune: optimizer after the last pruning, and `inner` then begins anew after each one before it, schedule and
        moments; None lets `inner` go on all the time.
      dense: expression of paths that are never masked.
      distribution: "uniform", "erk", "global", or path expression -> density.
      structure: "unstructured", `block(rows, columns)` or, for a single pruning, `n_m(n, m)`.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks, all ones before the first pruning; see `grow_and_prune` for
      its place in a chain.

    Raises:
      ValueError: an argument out of range, prunings out of order, several of n:m masks.

    Reference: the prune-from-dense baseline of SSD in Ma et al., GaP (arXiv 2106.09857): 50, 70, 80, 87.5 and 90%,
      with as many epochs behind each as the dense model has.

    Example:
      >>> params = {"kernel": jnp.array([[1.0, -3.0], [2.0, 0.5]])}
      >>> tx = iterative(optax.sgd(0.0), 0.25, at=2, before=((1, 0.75),))
      >>> state, seen = tx.init(params), []
      >>> for _ in range(2):
      ...     updates, state = tx.update(params, state, params)
      ...     params = optax.apply_updates(params, updates)
      ...     seen.append(params["kernel"].tolist())
      >>> seen
      [[[1.0, -3.0], [2.0, 0.0]], [[0.0, -3.0], [0.0, 0.0]]]
    """
    prunings = (*((int(step), float(kept)) for step, kept in before), (at, float(density)))
    for _, kept in prunings:
        numerics.check_density(kept)
    if at < 1:
        raise ValueError(f"at={at}: must be at least 1; masks of the first weights are `static`'s")
    for (step, kept), (later, fewer) in itertools.pairwise(prunings):
        if not (1 <= step < later and kept >= fewer):
            raise ValueError(
                f"before={tuple(before)}, at={at}, density={density}: every pruning must come after "
                "the one before it, and keep no more"
            )
    chosen = named(structure)
    if len(prunings) > 1 and isinstance(chosen, NOfM):
        raise ValueError(f"before={tuple(before)}: n:m masks have one density; leave it out")
    levels = Levels(tuple(kept for _, kept in prunings), distribution, chosen)
    restart = "none" if fine_tune is None else "all"
    rule = IterativeRule(tuple(step for step, _ in prunings), levels, dense, restart)
    return own_masks(inner, rule, fine_tune=fine_tune, fine_tune_after=at, axis_name=axis_name)
