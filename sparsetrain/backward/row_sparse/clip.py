"""Clipping by the norm of dense and row-sparse gradients together."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain.backward.row_sparse.gradient import is_row_sparse
from sparsetrain.backward.row_sparse.moment import scaled


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformationExtraArgs:
    """`optax.clip_by_global_norm` for trees that hold row-sparse gradients.

        g <- g * min(1, max_norm / ||g||),    ||g|| over all entries; those that are not there are zero

    Args:
      max_norm: largest norm let through, > 0.

    Returns:
      A stateless transformation to be used inside `carry_memory`, before `row_sparse.sgd` or
      `row_sparse.adam`.

    Raises:
      ValueError: max_norm is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = clip_by_global_norm(1.0)
      >>> [round(float(g), 3) for g in tx.update({"w": jnp.array([3.0, 4.0])}, tx.init(None))[0]["w"]]
      [0.6, 0.8]
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm={max_norm}: must be positive")

    def update_fn(
        updates: Any, state: optax.EmptyState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, optax.EmptyState]:
        del params, extra_args
        values = jax.tree.map(
            lambda leaf: leaf.values if is_row_sparse(leaf) else leaf,
            updates,
            is_leaf=is_row_sparse,
        )
        norm = optax.tree.norm(values)
        factor = jnp.where(norm < max_norm, 1.0, max_norm / norm)
        clipped = jax.tree.map(
            lambda leaf: scaled(
                leaf, factor.astype((leaf.values if is_row_sparse(leaf) else leaf).dtype)
            ),
            updates,
            is_leaf=is_row_sparse,
        )
        return clipped, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)
