"""RigL: the weakest weights make room for those with the largest gradients."""

from typing import Any

import optax

from sparsetrain import numerics
from sparsetrain.masks.drop_and_grow import DropAndGrowRule
from sparsetrain.masks.wrapper import own_masks


def rigl(
    inner: optax.GradientTransformation,
    density: float,
    *,
    key: Any,
    every: int = 100,
    until: int,
    fraction: float = 0.3,
    dense: str | None = None,
    distribution: Any = "erk",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Every so many updates drops the smallest weights and grows where the gradient is largest.

        f_t = fraction / 2 (1 + cos(pi t / until)),    k_l = floor(f_t active_l)
        drop the k_l smallest |w|, grow the k_l largest |dL/dw| among the inactive; grown weights are 0

    Args:
      inner: the optimizer; moments of grown weights start at zero.
      density: of the model, 0 < density <= 1.
      key: typed JAX key of the random first masks.
      every: updates between changes; a change takes the place of that update's optimizer step.
      until: updates after which masks stay; 75% to 80% of a run.
      fraction: alpha, share of the active weights that is moved at first.
      dense: expression of paths that are never masked.
      distribution: "erk", "uniform", or path expression -> density.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one. Gradients must be those of
        all workers already.

    Returns:
      A transformation whose state holds the masks; see `grow_and_prune` for its place in a chain.

    Raises:
      ValueError: an argument out of range.

    Differs from the reference code:
      1. Ties go to the lower index; it adds noise.

    Reference: Evci et al., Rigging the Lottery (arXiv 1911.11134).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = {"kernel": jnp.ones((8, 8))}
      >>> tx = rigl(optax.sgd(0.1), 0.25, key=jax.random.key(0), every=1, until=10)
      >>> state = tx.init(params)
      >>> _, state = tx.update(params, state, params)
      >>> int(state.masks["kernel"].sum())
      16
    """
    check(density, every, until, fraction, distribution)
    rule = DropAndGrowRule(
        float(density),
        every,
        until,
        fraction,
        "gradient",
        dense,
        distribution,
        key,
        True,
        takes_step=True,
    )
    return own_masks(inner, rule, axis_name=axis_name)


def check(density: float, every: int, until: int, fraction: float, distribution: Any) -> None:
    """Refuses what cannot be scheduled.

    Raises:
      ValueError: names the argument and the cure.
    """
    numerics.check_density(density)
    if every < 1 or until < 1:
        raise ValueError(f"every={every}, until={until}: must both be at least 1")
    if not 0.0 < fraction <= 1.0:
        raise ValueError(
            f"fraction={fraction}: must lie in (0, 1], the share of weights that moves"
        )
    if distribution == "global":
        raise ValueError(
            "distribution='global': layers keep their counts; choose 'erk' or 'uniform'"
        )
