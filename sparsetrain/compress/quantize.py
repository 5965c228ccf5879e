"""QSGD: stochastic rounding to a grid of levels, one norm a bucket."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain.compress.compressor import LeafCompressor
from sparsetrain.compress.ternary import own_key
from sparsetrain.payload import Payload, Quantized

LARGEST = 2**23  # levels up to which float32 tells neighbours apart


@dataclasses.dataclass(frozen=True, eq=False)
class Quantizer(LeafCompressor):
    """See `quantize`."""

    levels: int
    bucket: int
    key: Any = None
    axis_name: Any = None

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del step
        bucket = min(self.bucket, u.size)
        rows = jnp.pad(u.reshape(-1), (0, -u.size % bucket)).reshape(-1, bucket)
        # Relative to the largest of the bucket, so that squares neither overflow nor vanish.
        largest = jnp.max(jnp.abs(rows), axis=1, keepdims=True)
        rows = rows / jnp.where(largest > 0, largest, 1)
        unit = jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
        exact = self.levels * jnp.abs(rows) / jnp.where(unit > 0, unit, 1)
        draws = jax.random.uniform(own_key(key, self.axis_name), rows.shape, rows.dtype)
        below = jnp.floor(exact)
        rounded = below + (draws < exact - below)
        # A float error may lift the only entry of a bucket above its norm.
        signed = jnp.sign(rows) * jnp.minimum(rounded, self.levels)
        levels = signed.reshape(-1)[: u.size].astype(level_dtype(self.levels))
        norms = jnp.minimum(largest * unit, jnp.finfo(u.dtype).max)[:, 0]
        return Quantized(levels, norms, u.shape, self.levels, bucket), state


def level_dtype(levels: int) -> np.dtype:
    """Smallest signed integer that holds -levels..levels.

    Example:
      >>> print(level_dtype(127), level_dtype(128))
      int8 int16
    """
    return np.min_scalar_type(-levels - 1)


def quantize(levels: int = 127, bucket: int = 128, *, key: Any, axis_name: Any = None) -> Quantizer:
    """QSGD: a sign, one of s + 1 levels, and the norm of a bucket.

        a = s |v| / ||v||,    l = floor(a),    b ~ Bernoulli(a - l)
        C(v) = ||v|| sign(v) (l + b) / s

    Args:
      levels: s, at least 1.
      bucket: entries that share a norm v is taken over; one bucket for a smaller tensor.
      key: a typed JAX key; every tensor and step draws from its own.
      axis_name: of the workers, as for `exchange`: each then rounds by its own draws, so that their
        errors average out.

    Returns:
      A compressor for `no_memory()`. Unbiased; the variance of a bucket of d entries is at most
      min(d / s^2, sqrt(d) / s) ||v||^2. A bucket of zeros stays zero. Not all-reducible: workers
      have different norms.

    Raises:
      ValueError: levels outside 1..2^23, or a bucket below 1.

    Reference: Alistarh et al., QSGD (arXiv 1610.02132).

    Example:
      >>> compressor = quantize(levels=1, key=jax.random.key(0))
      >>> u = jnp.array([0.0, -2.0, 0.0])
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> payload.to_dense().tolist(), int(payload.payload_bits())
      ([0.0, -2.0, 0.0], 38)
    """
    if not 1 <= levels <= LARGEST:
        raise ValueError(f"levels={levels}: must lie in 1..2^23; 127 fit in a byte with their sign")
    if bucket < 1:
        raise ValueError(f"bucket={bucket}: must be at least 1, the entries that share a norm")
    return Quantizer(levels, bucket, key, axis_name)
