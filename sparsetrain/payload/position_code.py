"""How many bits rising positions take in a Golomb code with a power-of-two parameter."""

import math

import jax
import jax.numpy as jnp

from sparsetrain.payload.bit_count import BitCount

GOLDEN_RATIO = (math.sqrt(5.0) + 1.0) / 2.0


def golomb_parameter(density: float) -> int:
    """Remainder bits of the best code for positions that are each taken with this probability.

        b = max(0, 1 + floor(log2(log(phi - 1) / log(1 - p))))

    Args:
      density: p, 0 < p <= 1.

    Returns:
      b, the base-2 logarithm of the Golomb parameter.

    Raises:
      ValueError: a density outside (0, 1].

    Differs from the paper:
      1. Clipped at 0: the formula turns negative above p = .618.

    Reference: Sattler et al., Sparse Binary Compression (arXiv 1805.08768).

    Example:
      >>> [golomb_parameter(p) for p in (0.25, 0.1, 0.01, 0.001, 0.0001, 1.0)]
      [1, 3, 6, 9, 13, 0]
    """
    if not 0.0 < density <= 1.0:
        raise ValueError(f"density={density}: must lie in (0, 1]")
    if density == 1.0:
        return 0
    ratio = math.log(GOLDEN_RATIO - 1.0) / math.log1p(-density)
    return max(0, 1 + math.floor(math.log2(ratio)))


def parameter_of_count(count: jax.Array, entries: int) -> jax.Array:
    """`golomb_parameter` of the measured density count / entries, inside jit.

    Computed in float32; next to a boundary it may be one off the exact optimum, which costs
    nothing there. Whoever encodes uses this same number.

    Args:
      count: int32 scalar, 0..entries.
      entries: n.

    Returns:
      int32 scalar, 0..31; 0 for an empty or a full selection.

    Example:
      >>> int(parameter_of_count(jnp.int32(10), 1000))
      6
    """
    p = count.astype(jnp.float32) / max(1, entries)
    inner = jnp.clip(p, 1e-10, 1.0 - 1e-7)
    ratio = math.log(GOLDEN_RATIO - 1.0) / jnp.log1p(-inner)
    b = 1 + jnp.floor(jnp.log2(ratio)).astype(jnp.int32)
    trivial = (count <= 0) | (count >= entries)
    return jnp.where(trivial, 0, jnp.clip(b, 0, 31))


def position_bits(positions: jax.Array, count: jax.Array, b: jax.Array | int) -> BitCount:
    """Exact length of the code of the first `count` positions.

        sum_i (floor((d_i - 1) / 2^b) + 1 + b),    d_i = position_i - position_(i-1),  position_0 = -1

    Args:
      positions: [K] int32, rising; only the first `count` are read.
      count: int32 scalar.
      b: remainder bits.

    Returns:
      Number of bits, without padding and without a header.

    Example:
      >>> int(position_bits(jnp.array([0, 3, 9, 15]), jnp.int32(4), 2))
      14
    """
    if positions.shape[0] == 0:
        return BitCount.of(0)
    before = jnp.concatenate([jnp.full((1,), -1, positions.dtype), positions[:-1]])
    is_used = jnp.arange(positions.shape[0]) < count
    # The quotients sum to less than the number of entries, which an int32 holds.
    quotients = jnp.where(is_used, (positions - before - 1) >> b, 0)
    unary = BitCount.of(jnp.sum(quotients))
    return unary.plus(BitCount.product(count, 1 + b))
