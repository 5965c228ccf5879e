"""Sparse evolutionary training (SET): the weakest weights make room for random ones."""

from typing import Any

import optax

from sparsetrain.masks.drop_and_grow import DropAndGrowRule
from sparsetrain.masks.rigl import check
from sparsetrain.masks.wrapper import own_masks


def evolutionary(
    inner: optax.GradientTransformation,
    density: float,
    *,
    key: Any,
    every: int,
    until: int,
    fraction: float = 0.3,
    by_sign: bool = False,
    spread: float = 0.0,
    dense: str | None = None,
    distribution: Any = "erk",
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Every so many updates drops the smallest weights and grows as many at random places.

    Args:
      inner: the optimizer; moments of grown weights start at zero.
      density: of the model, 0 < density <= 1.
      key: typed JAX key of the first masks and of the random places.
      every: updates between changes, an epoch in the paper.
      until: updates after which masks stay.
      fraction: zeta, share of the active weights that is moved.
      by_sign: whether that share of the positive weights and of the negative ones is dropped, as in
        the paper, and not of all magnitudes together.
      spread: standard deviation of the normal first values of grown weights; 0 lets them start at
        zero, as later reimplementations do.
      dense: expression of paths that are never masked.
      distribution: "erk", "uniform", or path expression -> density.
      axis_name: of `vmap` or `shard_map`, if the update runs inside one.

    Returns:
      A transformation whose state holds the masks; see `grow_and_prune` for its place in a chain.

    Raises:
      ValueError: an argument out of range.

    Differs from the paper:
      1. By default the smallest magnitudes are dropped whatever their sign, and grown weights start at
         zero: the form that RigL's authors compare with. `by_sign` and `spread` give the paper's.

    Reference: Mocanu et al., Scalable training of artificial neural networks with adaptive sparse
      connectivity (arXiv 1707.04780).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = {"kernel": jnp.ones((8, 8))}
      >>> tx = evolutionary(optax.sgd(0.1), 0.25, key=jax.random.key(0), every=1, until=10)
      >>> state = tx.init(params)
      >>> _, state = tx.update(params, state, params)
      >>> int(state.masks["kernel"].sum())
      16
    """
    check(density, every, until, fraction, distribution)
    if not spread >= 0.0:
        raise ValueError(f"spread={spread}: must not be negative, it is a standard deviation")
    rule = DropAndGrowRule(
        float(density),
        every,
        until,
        fraction,
        "random",
        dense,
        distribution,
        key,
        False,
        by_sign=by_sign,
        spread=float(spread),
        sows=spread > 0.0,
    )
    return own_masks(inner, rule, axis_name=axis_name)
