"""Magnitudes as integers: bit patterns that order as |values| do, denormals and NaN included.

XLA's CPU backend flushes denormals to zero in float arithmetic and comparisons. A threshold search
in float would therefore stop at zero for tiny values; comparing patterns is exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FLOAT32_NAN = 0x7F800001  # one above infinity: every NaN is made this pattern, the largest one
FLOAT64_NAN = 0x7FF0000000000001


def pattern_dtype(*arrays: jax.Array) -> np.dtype:
    """Integer dtype of the patterns of these arrays.

    Args:
      *arrays: floating arrays that are to be compared with each other.

    Returns:
      int32, or int64 where all arrays are float64.

    Raises:
      TypeError: an array is not floating.
      ValueError: float64 without x64, or mixed with narrower arrays.

    Example:
      >>> import jax.numpy as jnp
      >>> print(pattern_dtype(jnp.ones(2), jnp.ones(2, jnp.bfloat16)))
      int32
    """
    dtypes = [np.dtype(array.dtype) for array in arrays]
    for dtype in dtypes:
        if not jnp.issubdtype(dtype, jnp.floating) or dtype.itemsize not in (2, 4, 8):
            raise TypeError(
                f"values of dtype {dtype}: magnitudes are compared as float16, bfloat16, float32 "
                "or float64; cast the values"
            )
    if np.dtype(np.float64) not in dtypes:
        return np.dtype(np.int32)
    if not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "values of dtype float64: JAX would cut them to float32; "
            "set jax_enable_x64, or cast them yourself"
        )
    if len(set(dtypes)) > 1:
        raise ValueError(f"values of dtypes {sorted(map(str, set(dtypes)))}: cast them to one")
    return np.dtype(np.int64)


def nan_pattern(dtype: np.dtype) -> int:
    """The largest pattern of an integer dtype, that of NaN."""
    return FLOAT64_NAN if dtype == np.int64 else FLOAT32_NAN


def magnitude_patterns(values: jax.Array) -> jax.Array:
    """Integers that order like |values|.

        pattern(v) = bits of |v| without the sign; min(., infinity + 1) makes all NaN alike

    Args:
      values: any shape; floating, or integer patterns already, which are returned as they are.

    Returns:
      Same shape, int32 (float32's bit layout, also for 16-bit values) or int64 for float64.

    Example:
      >>> import jax.numpy as jnp
      >>> magnitude_patterns(jnp.array([-1.0, 1.0, 0.0])).tolist()
      [1065353216, 1065353216, 0]
    """
    if jnp.issubdtype(values.dtype, jnp.integer):
        return values
    integer = pattern_dtype(values)
    if values.dtype == jnp.bfloat16:
        # Its bits are float32's upper half; a cast through float could flush denormals.
        bits = lax.bitcast_convert_type(values, jnp.uint16).astype(jnp.int32) << 16
    elif values.dtype == jnp.float16:
        bits = lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)
    else:
        bits = lax.bitcast_convert_type(values, integer)
    return jnp.minimum(bits & np.iinfo(integer).max, nan_pattern(integer))


def magnitude_of(pattern: jax.Array) -> jax.Array:
    """The float that a pattern stands for: the inverse of `magnitude_patterns`.

    Args:
      pattern: int32 or int64, any shape.

    Returns:
      Same shape, float32 or float64.

    Example:
      >>> import jax.numpy as jnp
      >>> magnitude_of(magnitude_patterns(jnp.array([-1.5, jnp.nan]))).tolist()
      [1.5, nan]
    """
    floating = np.float64 if pattern.dtype == np.int64 else np.float32
    return lax.bitcast_convert_type(pattern, floating)
