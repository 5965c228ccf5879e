"""1-bit SGD: two bins by sign, each sent as its mean."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.compress.compressor import LeafCompressor
from sparsetrain.payload import Payload, Sign


@dataclasses.dataclass(frozen=True)
class OneBit(LeafCompressor):
    """See `one_bit`."""

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del step, key
        is_high = u >= 0
        low, high = mean_where(u, ~is_high), mean_where(u, is_high)
        return Sign.pack(is_high, low, high, 2), state


def mean_where(u: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the entries of a mask; 0 of none.

    Example:
      >>> float(mean_where(jnp.array([1.0, 3.0, 8.0]), jnp.array([True, True, False])))
      2.0
    """
    return jnp.sum(jnp.where(mask, u, 0)) / jnp.maximum(jnp.sum(mask, dtype=jnp.int32), 1)


def one_bit() -> OneBit:
    """One bit an entry; the receiver puts the mean of its bin in its place.

        C(u) = mean(u where u >= 0) where u >= 0,    mean(u where u < 0) elsewhere

    The best that two values by sign can do: ||u - C(u)||^2 = ||u||^2 - n+ mu+^2 - n- mu-^2.

    Returns:
      A compressor. Biased, a contraction with delta >= 1 / d; needs error feedback. Not
      all-reducible: every worker has its own means.

    Differs from the paper:
      1. Bins and means are of a whole tensor; the paper has them for each column of a matrix.

    Reference: Seide et al., 1-Bit Stochastic Gradient Descent, Interspeech 2014.

    Example:
      >>> compressor = one_bit()
      >>> u = jnp.array([1.0, -2.0, 3.0, -4.0])
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> payload.to_dense().tolist(), int(payload.payload_bits())
      ([2.0, -3.0, 2.0, -3.0], 68)
    """
    return OneBit()
