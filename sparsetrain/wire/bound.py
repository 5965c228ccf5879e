"""What no code can beat: entropy of positions, and the number of ways to choose them."""

import math
from typing import Any

from sparsetrain.numerics import check_density
from sparsetrain.payload import Payload


def entropy_bits(density: float) -> float:
    """Fewest mean bits of a position, if every entry is taken with this probability.

        H(p) / p,    H(p) = -p log2 p - (1 - p) log2(1 - p)

    Args:
      density: p, 0 < p <= 1.

    Returns:
      Bits a position.

    Raises:
      ValueError: a density outside (0, 1].

    Example:
      >>> [round(entropy_bits(p), 3) for p in (0.1, 0.01, 0.001)]
      [4.69, 8.079, 11.408]
    """
    p = check_density(density)
    if p == 1.0:
        return 0.0
    return (-p * math.log(p) - (1.0 - p) * math.log1p(-p)) / (p * math.log(2.0))


def combinatorial_bits(entries: int, count: int) -> float:
    """Fewest bits that tell any set of `count` among `entries` positions from every other.

        log2 C(n, k)

    Args:
      entries: n.
      count: k, 0..n; known to the receiver.

    Returns:
      Bits for all positions together.

    Raises:
      ValueError: a count outside 0..n.

    Example:
      >>> round(combinatorial_bits(5, 2), 6) == round(math.log2(10), 6)
      True
    """
    if not 0 <= count <= entries:
        raise ValueError(f"count={count}: must lie in 0..{entries}, the number of entries")
    ways = math.lgamma(entries + 1) - math.lgamma(count + 1) - math.lgamma(entries - count + 1)
    return max(0.0, ways / math.log(2.0))


def payload_bound(payload: Any) -> float:
    """Fewest bits of a payload whose values, signs and means are sent as they are.

        payload bits - position bits + log2 C(n, k)

    Args:
      payload: any payload; those without positions are their own bound.

    Returns:
      Bits, without header and padding.

    Raises:
      ValueError: no payload.

    Example:
      >>> import jax.numpy as jnp
      >>> from sparsetrain.payload import SparseBinary
      >>> chosen = SparseBinary(jnp.array([1, 4]), jnp.int32(2), (5,), mean=jnp.float32(1.0))
      >>> round(payload_bound(chosen), 2), int(chosen.payload_bits())
      (35.32, 37)
    """
    if not isinstance(payload, Payload):
        raise ValueError(
            f"payload: {type(payload).__name__} is no payload; map over a tree of them"
        )
    sections = {name: int(bits) for name, bits in payload.sections().items()}
    rest = sum(bits for name, bits in sections.items() if name not in ("header", "positions"))
    if "positions" not in sections:
        return float(rest)
    sparse: Any = payload
    count = int(sparse.counts.sum() if hasattr(sparse, "counts") else sparse.count)
    return rest + combinatorial_bits(sparse.entries, count)
