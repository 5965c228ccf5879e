"""Gradual magnitude pruning (GMP): the density falls along a cubic ramp."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain import numerics
from sparsetrain.masks import distribution as distributions
from sparsetrain.masks.partition import leaves_by_path, prunable
from sparsetrain.masks.rule import Change, Rule, mask_error
from sparsetrain.masks.structure import NOfM, keep_largest, keep_largest_of_all, named
from sparsetrain.masks.wrapper import own_masks


def cubic_density(progress: Any, first: float, last: float) -> Any:
    """Density along the ramp.

        d = d_last + (d_first - d_last) (1 - progress)^3

    Args:
      progress: 0..1, a number or an array; clipped.
      first: density at 0.
      last: density at 1.

    Returns:
      Density, of the same kind.

    Reference: Zhu and Gupta, To prune, or not to prune (arXiv 1710.01878).

    Example:
      >>> [round(1 - float(cubic_density(p, 1.0, 0.1)), 7) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
      [0.0, 0.5203125, 0.7875, 0.8859375, 0.9]
    """
    if isinstance(progress, jax.Array):
        rest = 1.0 - jnp.clip(progress, 0.0, 1.0)
    else:
        rest = 1.0 - min(1.0, max(0.0, progress))
    return last + (first - last) * rest**3


@dataclasses.dataclass(frozen=True, eq=False)
class GradualRule(Rule):
    """See `gradual`."""

    density: float
    begin: int
    end: int
    every: int
    initial_density: float
    dense: str | None
    distribution: Any
    structure: Any
    # Whether masked weights live on, to be ranked again, and masks go on changing after the end.
    has_shadows: bool = False

    def start(self, params: Any) -> dict[str, jax.Array]:
        leaves = leaves_by_path(params)
        shapes = {path: leaves[path].shape for path in prunable(params, self.dense)}
        distributions.counts(shapes, self.density, self.distribution, self.structure)  # Checks.
        return {path: jnp.ones(shape, bool) for path, shape in shapes.items()}

    def is_due(self, step: jax.Array) -> jax.Array:
        inside = step >= self.begin
        if not self.has_shadows:
            inside &= step <= self.end
        return inside & (((step - self.begin) % self.every == 0) | (step == self.end))

    def change(
        self, weights: Any, masks: Any, gradients: Any, step: jax.Array, memory: Any
    ) -> Change:
        del gradients, memory
        length = max(1, self.end - self.begin)
        progress = (step - self.begin).astype(jnp.float32) / length
        is_last = step >= self.end
        shapes = {path: leaf.shape for path, leaf in weights.items()}
        live = dict(weights)
        if not self.has_shadows:
            live = {path: jnp.where(masks[path], leaf, 0) for path, leaf in weights.items()}
        units = {path: self.structure.units(shape) for path, shape in shapes.items()}

        def count(size: int, last: float, exact: int) -> jax.Array:
            # The last count is that of Python's arithmetic, not of float32's.
            wanted = cubic_density(progress, self.initial_density, last) * size
            return jnp.where(is_last, exact, jnp.maximum(1, jnp.round(wanted).astype(jnp.int32)))

        if self.distribution == "global":
            size = sum(units.values())
            exact = max(1, round(self.density * size))
            largest = keep_largest_of_all(live, self.structure, count(size, self.density, exact))
        else:
            ends = distributions.densities(shapes, self.density, self.distribution)
            exacts = distributions.counts(shapes, self.density, self.distribution, self.structure)
            counts = [
                count(units[path], ends[path], exact)
                for path, exact in zip(shapes, exacts, strict=True)
            ]
            largest = keep_largest(live, self.structure, jnp.stack(counts))
        new = {path: largest[path] & (masks[path] | self.has_shadows) for path in masks}
        return Change(new, mask_error(live, new))


def ramp(
    density: float,
    begin: int,
    end: int,
    every: int,
    initial_density: float,
    dense: str | None,
    distribution: Any,
    structure: Any,
    *,
    has_shadows: bool = False,
) -> GradualRule:
    """The rule of `gradual`, and with shadows that of `dpf`; arguments as there.

    Raises:
      ValueError: an argument out of range, n:m masks.

    Example:
      >>> ramp(0.25, 1, 2, 1, 1.0, None, "uniform", "unstructured").structure
      Unstructured()
    """
    numerics.check_density(density)
    numerics.check_density(initial_density, "initial_density")
    if not 1 <= begin <= end or every < 1:
        raise ValueError(
            f"begin={begin}, end={end}, every={every}: need 1 <= begin <= end, every >= 1"
        )
    chosen = named(structure)
    if isinstance(chosen, NOfM):
        raise ValueError("structure: n:m masks have one density and cannot be reached gradually")
    first, last = float(initial_density), float(density)
    return GradualRule(
        last, begin, end, every, first, dense, distribution, chosen, has_shadows=has_shadows
    )


def gradual(
    inner: optax.GradientTransformation,
    density: float,
    *,
    begin: int,
    end: int,
    every: int = 1,
    initial_density: float = 1.0,
    dense: str | None = None,
    distribution: Any = "uniform",
    structure: Any = "unstructured",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Prunes the smallest weights little by little while it trains.

        d_t = d + (d_0 - d)(1 - (t - begin) / (end - begin))^3,    every so many updates

    Args:
      inner: the optimizer; its state goes on.
      density: at the end, 0 < density <= 1.
      begin: updates before the first pruning.
      end: updates at which `density` is reached.
      every: updates between prunings.
      initial_density: d_0.
      dense: expression of paths that are never masked.
      distribution: "uniform", "erk", "global", or path expression -> density.
      structure: "unstructured" or `block(rows, columns)`.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks; see `grow_and_prune` for its place in a chain.

    Raises:
      ValueError: an argument out of range, n:m masks.

    Differs from the paper:
      1. Pruned weights are zero and stay zero; there, stored values may return.

    Reference: Zhu and Gupta, To prune, or not to prune (arXiv 1710.01878).

    Example:
      >>> params = {"kernel": jnp.array([[1.0, -3.0], [2.0, 0.5]])}
      >>> tx = gradual(optax.sgd(0.0), 0.25, begin=1, end=2)
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update(params, state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> params["kernel"].tolist()
      [[0.0, -3.0], [0.0, 0.0]]
    """
    rule = ramp(density, begin, end, every, initial_density, dense, distribution, structure)
    return own_masks(inner, rule, axis_name=axis_name)
