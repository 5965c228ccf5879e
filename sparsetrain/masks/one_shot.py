"""One-shot magnitude pruning: train dense, prune once, train on."""

from typing import Any

import optax

from sparsetrain.masks.iterative import iterative


def one_shot(
    inner: optax.GradientTransformation,
    density: float,
    *,
    at: int,
    fine_tune: optax.GradientTransformation | None = None,
    dense: str | None = None,
    distribution: Any = "uniform",
    structure: Any = "unstructured",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Keeps the largest weights after so many dense updates, and trains on without the others.

        m = the largest |w| after `at` updates

    Args:
      inner: the optimizer of the dense updates.
      density: fraction of weights kept, 0 < density <= 1.
      at: dense updates.
      fine_tune: optimizer from then on; None lets `inner` go on, with its moments and counters.
      dense: expression of paths that are never masked.
      distribution: "uniform", "erk", "global", or path expression -> density.
      structure: "unstructured", `block(rows, columns)` or `n_m(n, m)`.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks; see `grow_and_prune` for its place in a chain.

    Raises:
      ValueError: an argument out of range.

    See `iterative` for several prunings.

    Reference: the prune-from-dense baseline of Ma et al., GaP (arXiv 2106.09857).

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"kernel": jnp.array([[1.0, -3.0], [2.0, 0.5]])}
      >>> tx = one_shot(optax.sgd(0.0), 0.5, at=1)
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["kernel"].tolist()
      [[0.0, -3.0], [2.0, 0.0]]
    """
    kind = {"dense": dense, "distribution": distribution, "structure": structure}
    return iterative(inner, density, at=at, fine_tune=fine_tune, axis_name=axis_name, **kind)
