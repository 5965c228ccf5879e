"""A threshold estimated from a sample, as gradient dropping and DGC do: cheap, not exact."""

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import numerics
from sparsetrain.selection.exact import count
from sparsetrain.selection.threshold import kth_magnitude


def sampled_threshold(
    values: jax.Array, density: float, sample_fraction: float, key: jax.Array | None = None
) -> jax.Array:
    """The magnitude that about `density` of the entries reach, from every s-th of them.

        s = round(1 / sample_fraction)          S = floor(N / s)          k = count(S, density)
        t = k-th largest of |v[o]|, |v[o + s]|, ..., |v[o + (S - 1) s]|

    Of independent entries, {|v| >= t} keeps a fraction whose standard deviation, relative to
    `density`, is about

        sqrt((1 - density) / (density S)):

    3% for a density of 0.1% and a sample of one million, 32% for one of ten thousand. Entries that
    repeat with a period that shares a divisor with s make a biased sample. Ties at t are all kept.

    Args:
      values: floating, any shape, taken as one list.
      density: fraction that should be kept, 0 < density <= 1.
      sample_fraction: fraction that is looked at, 0 < sample_fraction <= 1.
      key: a typed JAX key, which draws the offset o in 0..s-1; without one, o = 0.

    Returns:
      Scalar t, float32 or float64.

    Raises:
      ValueError: a fraction outside (0, 1], or no entry at all.

    Example:
      >>> import jax.numpy as jnp
      >>> float(sampled_threshold(jnp.arange(100.0), density=0.1, sample_fraction=0.5))
      90.0
    """
    density = numerics.check_density(density)
    sample_fraction = numerics.check_density(sample_fraction, "sample_fraction")
    if values.size < 1:
        raise ValueError("values is empty: there is no threshold; leave the array out")
    flat = lax.stop_gradient(values).reshape(-1)
    stride = min(round(1.0 / sample_fraction), values.size)
    size = values.size // stride
    rows = flat[: size * stride].reshape(size, stride)
    offset = jnp.zeros((), jnp.int32)
    if key is not None:
        offset = jax.random.randint(key, (), 0, stride, jnp.int32)
    drawn = lax.dynamic_slice(rows, (jnp.zeros((), jnp.int32), offset), (size, 1))
    return kth_magnitude(drawn, count(size, density))
