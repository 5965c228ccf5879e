"""Natural compression: stochastic rounding to powers of two."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.compress.compressor import LeafCompressor
from sparsetrain.compress.ternary import own_key
from sparsetrain.payload import Natural, Payload

MANTISSA_BITS = 23
LARGEST_EXPONENT = 254  # of a finite float32, with its bias


@dataclasses.dataclass(frozen=True, eq=False)
class NaturalCompressor(LeafCompressor):
    """See `natural`."""

    key: Any = None
    axis_name: Any = None

    def compress_leaf(
        self, u: jax.Array, state: Any, step: jax.Array, key: Any
    ) -> tuple[Payload, Any]:
        del step
        words = lax.bitcast_convert_type(u.reshape(-1).astype(jnp.float32), jnp.uint32)
        draws = jax.random.bits(own_key(key, self.axis_name), words.shape, jnp.uint32)
        magnitudes, negative = words & 0x7FFFFFFF, words >> 31
        # The mantissa is the distance to the power below, in 2^-23 of the gap: with that
        # probability the sum carries into the exponent. Subnormals need no case of their own.
        carried = magnitudes + (draws >> (32 - MANTISSA_BITS))
        exponents = jnp.minimum(carried >> MANTISSA_BITS, LARGEST_EXPONENT)
        return Natural(((negative << 8) | exponents).astype(jnp.uint16), u.shape), state


def natural(key: Any, *, axis_name: Any = None) -> NaturalCompressor:
    """The power of two below or above, at random so that the mean is right; nine bits an entry.

        C(v) = sign(v) 2^e (1 + b),    |v| = 2^e (1 + f),    b ~ Bernoulli(f)

    Args:
      key: a typed JAX key; every tensor and step draws from its own.
      axis_name: of the workers, as for `exchange`: each then rounds by its own draws, so that their
        errors average out.

    Returns:
      A compressor for `no_memory()`. Unbiased, with variance at most v^2 / 8 for each entry. Not
      all-reducible: a sum of powers of two is none.

    Differs from the paper:
      1. What would round up to infinity, above 2^127, is cut to 2^127.

    Reference: Horvath et al., Natural Compression for Distributed Deep Learning (arXiv 1905.10988).

    Example:
      >>> compressor = natural(jax.random.key(0))
      >>> u = jnp.array([0.25, -2.0, 0.0])
      >>> payload, _ = compressor.compress(u, compressor.init(u))
      >>> payload.to_dense().tolist(), int(payload.payload_bits())
      ([0.25, -2.0, 0.0], 27)
    """
    return NaturalCompressor(key, axis_name)
