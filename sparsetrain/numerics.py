"""Numbers that every lever treats alike: accumulation dtypes, non-finite input, density."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def check_density(density: float, name: str = "density") -> float:
    """The density as a Python float, or a ValueError that names the cure.

    Args:
      density: fraction of entries kept or sent, 0 < density <= 1.
      name: how the caller spells the argument.

    Returns:
      `float(density)`.

    Raises:
      ValueError: outside (0, 1], not finite, or not a concrete number.

    Example:
      >>> check_density(0.04)
      0.04
      >>> check_density(4)
      Traceback (most recent call last):
      ValueError: density=4: must lie in (0, 1]; it is the fraction kept, so 4% is 0.04
    """
    # Arrays too: optax.inject_hyperparams hands over concrete ones first and traced ones later.
    if isinstance(density, jax.Array):
        raise ValueError(
            f"{name} is traced or a JAX array; it fixes array shapes, so give a Python number"
        )
    value = float(density)
    if not (math.isfinite(value) and 0.0 < value <= 1.0):
        raise ValueError(
            f"{name}={density}: must lie in (0, 1]; it is the fraction kept, so 4% is 0.04"
        )
    return value


def accumulator_dtype(dtype: jax.typing.DTypeLike) -> np.dtype:
    """Dtype in which sums and memories are kept: at least float32.

    Args:
      dtype: dtype of the operands, floating.

    Returns:
      float64 for float64, else float32.

    Example:
      >>> import jax.numpy as jnp
      >>> print(accumulator_dtype(jnp.bfloat16))
      float32
    """
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def keep_if_finite(increment: jax.Array, witness: jax.Array) -> jax.Array:
    """The increment of a memory, or zero where a non-finite number entered the step.

    A sum is non-finite as soon as one of its terms is, so `witness` may be any sum over the input:
    no pass over the entries is spent on the check. A sum that overflows counts as non-finite too.

    Args:
      increment: what would be added to a memory, any shape.
      witness: any array that is non-finite if the input was.

    Returns:
      `increment` if the sum of `witness` is finite, else zeros of the same shape and dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> keep_if_finite(jnp.ones(2), jnp.array([1.0, jnp.nan])).tolist()
      [0.0, 0.0]
    """
    # Without the barrier XLA sums the whole input again in the place of this sum of sums.
    total = jnp.sum(jax.lax.optimization_barrier(witness))
    return jnp.where(jnp.isfinite(total), increment, jnp.zeros_like(increment))
