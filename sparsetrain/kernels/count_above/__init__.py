"""K2: how many magnitudes reach each of a few thresholds, in one pass over an array.

count_t = #{i : |v_i| >= threshold_t}
"""

import jax
import jax.numpy as jnp

from sparsetrain.kernels import dispatch
from sparsetrain.kernels.count_above import reference

MOST = 15  # thresholds of one pass of a kernel
_KERNELS: tuple[str, ...] = (dispatch.MOSAIC_GPU, dispatch.TPU)


def count_above(
    values: jax.Array, thresholds: jax.Array, *, implementation: str | None = None
) -> jax.Array:
    """Counts the magnitudes at or above each threshold, to the bit: ties, denormals and NaN included.

        count_t = #{i : pattern(v_i) >= threshold_t}

    Args:
      values: [N] float16, bfloat16, float32, float64, or patterns already; N < 2^31.
      thresholds: [T] patterns, see `kernels.pattern.magnitude_patterns`; T <= 15 for the kernels, which
        cost the same for all 15, while XLA makes a pass for every `per_pass`.
      implementation: "xla", "mosaic_gpu", "tpu"; None for the kernel where it can run, see
        `dispatch.choose`.

    Returns:
      [T] int32. NaN counts as larger than infinity.

    Raises:
      ValueError: shapes that are no vectors, or an implementation that cannot run here.

    Reference: the counting pass of radix selection, as in Zhang et al., AIR Top-K, SC 2023, without its
    scatter and atomics.

    Example:
      >>> from sparsetrain.kernels.pattern import magnitude_patterns
      >>> thresholds = magnitude_patterns(jnp.array([1.0, 2.0, 3.0]))
      >>> count_above(jnp.array([-1.0, 2.0, 2.5]), thresholds).tolist()
      [3, 2, 0]
    """
    if values.ndim != 1 or thresholds.ndim != 1 or not thresholds.size:
        raise ValueError(
            f"values {values.shape}, thresholds {thresholds.shape}: give two vectors, the latter not empty"
        )
    chosen = dispatch.choose(implementation, _KERNELS, _unfit(values, thresholds))
    counts: jax.Array = dispatch.module(__name__, chosen).count_above(values, thresholds)
    return counts


def per_pass() -> int:
    """Thresholds that one pass takes where this program will run.

    Example:
      >>> per_pass()                                                          # on a CPU
      5
    """
    return reference.FIELDS if dispatch.choose(None, _KERNELS) == dispatch.XLA else MOST


def _unfit(values: jax.Array, thresholds: jax.Array) -> str | None:
    if thresholds.dtype != jnp.int32:
        return f"patterns of {thresholds.dtype} are wider than the 32 bits that kernels compare"
    if values.dtype == jnp.float16 and dispatch.target().platform == "tpu":
        return "a TPU has no float16"
    if thresholds.shape[0] > MOST:
        return f"{thresholds.shape[0]} thresholds are more than {MOST}"
    return None
