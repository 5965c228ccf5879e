"""TernGrad: every entry becomes -s, 0 or s at random, so that the mean is right."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.compress.compressor import LeafCompressor
from sparsetrain.payload import Payload, Quantized


@dataclasses.dataclass(frozen=True, eq=False)
class Ternary(LeafCompressor):
    """See `ternary`."""

    key: Any = None
    clip: float | None = 2.5
    shared_scale: bool = True
    axis_name: Any = None

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del step
        if self.clip is not None:
            u = clipped(u, self.clip)
        magnitudes = jnp.abs(u)
        scale = jnp.max(magnitudes)
        if self.axis_name is not None and self.shared_scale:
            scale = lax.pmax(scale, self.axis_name)
        draws = jax.random.uniform(own_key(key, self.axis_name), u.shape, u.dtype)
        # Products and not quotients: nothing to guard where the scale is zero.
        is_kept = draws * scale < magnitudes
        levels = jnp.where(is_kept, jnp.sign(u), 0).astype(jnp.int8).reshape(-1)
        return Quantized(levels, scale[None], u.shape, 1, u.size), state


def clipped(u: jax.Array, factor: float) -> jax.Array:
    """The array, cut to so many times its root mean square.

    Example:
      >>> clipped(jnp.array([3.0, 0.0, 0.0, 0.0]), 1.0).tolist()
      [1.5, 0.0, 0.0, 0.0]
    """
    # Relative to the largest: squares of tiny entries would underflow.
    largest = jnp.max(jnp.abs(u))
    relative = u / jnp.where(largest > 0, largest, 1)
    limit = factor * largest * jnp.sqrt(jnp.mean(relative**2))
    return jnp.clip(u, -limit, limit)


def own_key(key: Any, axis_name: Any) -> Any:
    """The key; a worker's own where an axis is named, so that their rounding errors average out."""
    return key if axis_name is None else jax.random.fold_in(key, lax.axis_index(axis_name))


def ternary(
    key: Any, clip: float | None = 2.5, *, shared_scale: bool = True, axis_name: Any = None
) -> Ternary:
    """TernGrad: sign, zero and one scale a tensor.

        g' = g clipped at +-clip * rms(g),    s = max |g'|
        C(g) = s sign(g') b,    b ~ Bernoulli(|g'| / s)

    Args:
      key: a typed JAX key; every tensor and step draws from its own.
      clip: where the gradient is cut, in root mean squares of its tensor; None for nowhere.
      shared_scale: with an axis, whether s is the largest of all workers, so that their sums lie on
        one grid.
      axis_name: of the workers, as for `exchange`. Without it all round by the same draws and, each
        with its own s, their errors do not average out.

    Returns:
      A compressor for `no_memory()`. Unbiased for the clipped gradient, E C(g) = g', with variance
      sum |g'| (s - |g'|). All-reducible where the scale is shared: levels are summed as integers.

    Raises:
      ValueError: clip not positive.

    Differs from the paper:
      1. Clipped at root mean squares and not at standard deviations, which is the same for a mean
         of zero, and leaves a tensor of nearly equal entries as it is.

    Reference: Wen et al., TernGrad (arXiv 1705.07878).

    Example:
      >>> compressor = ternary(jax.random.key(0))
      >>> u = jnp.array([2.0, -2.0, 0.0])
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> payload.to_dense().tolist(), int(payload.payload_bits())           # 2 n + 32
      ([2.0, -2.0, 0.0], 38)
    """
    if clip is not None and not clip > 0:
        raise ValueError(
            f"clip={clip}: must be positive, in root mean squares; None for no clipping"
        )
    return Ternary(key, clip, shared_scale, axis_name)
