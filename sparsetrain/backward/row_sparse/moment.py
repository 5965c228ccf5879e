"""Running averages of which only some rows are brought up to date at a step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsetrain.backward.row_sparse.gradient import RowSparse, is_row_sparse


def zeros(params: Any) -> Any:
    """A zero average for every parameter, in the parameter's shape."""
    return jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf.values if is_row_sparse(leaf) else leaf),
        params,
        is_leaf=is_row_sparse,
    )


def never(params: Any) -> Any:
    """Step at which each row was last brought up to date: int32 [O] beside a row-sparse kernel, else None."""
    return jax.tree.map(
        lambda leaf: (
            jnp.zeros((leaf.values.shape[leaf.axis],), jnp.int32) if is_row_sparse(leaf) else None
        ),
        params,
        is_leaf=is_row_sparse,
    )


def advance(
    average: jax.Array,
    gradient: Any,
    rate: Any,
    gain: Any,
    elapsed: jax.Array | None,
) -> jax.Array:
    """rate^elapsed * average + gain * gradient, for the rows that the gradient names.

    Args:
      average: of the kernel's shape, as it was when each row was last touched.
      gradient: an array, or a `RowSparse` whose values already hold what is averaged.
      rate: decay of the average per step.
      gain: factor of the new gradient.
      elapsed: [K] steps since each row was touched (at least 1); None means 1.

    Returns:
      The rows that changed (all of them for a dense gradient).
    """
    if not is_row_sparse(gradient):
        return rate * average + gain * gradient
    decay = rate if elapsed is None else gradient.per_row(rate**elapsed)
    return decay * gradient.take(average) + gain * gradient.values


def elapsed_steps(
    gradient: RowSparse, last: jax.Array, step: jax.Array, dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Steps since the named rows were touched [K], and the record with them marked as touched now."""
    before = last.at[gradient.columns].get(mode="clip")
    # Always `step`, but only after `before` was read: else XLA copies the record to be safe.
    now = jnp.maximum(before, step)
    marked = last.at[gradient.columns].set(now, mode="drop", unique_indices=True)
    return (step - before).astype(dtype), marked


def scaled(leaf: Any, factor: Any) -> Any:
    """A dense or row-sparse leaf times a number; column numbers stay as they are."""
    return leaf.replace(leaf.values * factor) if is_row_sparse(leaf) else leaf * factor


def at_step(learning_rate: optax.ScalarOrSchedule, count: jax.Array) -> Any:
    """The learning rate for the update that follows `count` earlier ones."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def leaves_beside(structure: Any, *trees: Any) -> list[list[Any]]:
    """Leaves of trees that hold one array wherever the gradients hold a dense or row-sparse leaf."""
    return [structure.flatten_up_to(tree) for tree in trees]
