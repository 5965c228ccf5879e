"""How much of the dropped gradient a memory keeps: a fixed ratio, or one that follows the gradient."""

import math

import jax
import jax.numpy as jnp

ADAPTIVE = "adaptive"


def check_decay(decay: float | str) -> float | str:
    """The decay if it can be used, else a ValueError that names the cure."""
    if isinstance(decay, str) and decay == ADAPTIVE:
        return decay
    try:
        value = float(decay)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and 0.0 <= value < 1.0):
        raise ValueError(
            f"decay={decay!r}: must satisfy 0 <= decay < 1, or be 'adaptive'; it is the fraction of "
            "the dropped gradient that is remembered (the paper's gamma)"
        )
    return value


def decay_factor(decay: float | str, received: jax.Array, share: jax.Array) -> float | jax.Array:
    """The ratio with which this call's remainder is remembered.

        adaptive:  gamma = f / sqrt(f^2 + s^2),    f = mean_i ||dh_i||,  s = mean_i ||m_i||

    A memory that is small beside the fresh gradient is kept whole, one that has outgrown it is
    forgotten quickly. So the ratio finds its own level, about .8 where that is the best fixed one,
    and needs no state: both norms are at hand. Where nothing fresh comes in, nothing is kept.

    Args:
      decay: a number in [0, 1), or "adaptive".
      received: [R, O], the fresh gradient dh.
      share: [R, O] or [1, O], what memory added to each row.

    Returns:
      gamma, a Python number or a scalar array.

    Differs from the paper:
      1. The paper names an adaptive ratio as future work; this form is ours.

    Example:
      >>> import jax.numpy as jnp
      >>> round(float(decay_factor("adaptive", jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 4.0]]))), 3)
      0.6
    """
    if not isinstance(decay, str):
        return decay
    fresh = jnp.mean(jnp.linalg.norm(received, axis=1))
    kept = jnp.mean(jnp.linalg.norm(share, axis=1))
    size = jnp.sqrt(fresh * fresh + kept * kept)
    return jnp.where(size > 0, fresh / jnp.where(size > 0, size, 1), 0)
