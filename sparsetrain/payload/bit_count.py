"""Exact counts of bits in two 32-bit words, which jit can add up beyond 10^15."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsetrain import pretty

_HALF = 16


class BitCount(NamedTuple):
    """high * 2^32 + low, below 2^64.

    JAX has no 64-bit integers unless they are switched on for the whole process, and a float32
    stops counting at 2^24.

    Attributes:
      high: uint32, any shape.
      low: uint32, the same shape.
    """

    high: jax.Array
    low: jax.Array

    @classmethod
    def of(cls, number: Any) -> "BitCount":
        """A count from a Python integer below 2^64, or from an array of non-negative integers.

        Example:
          >>> int(BitCount.of(10**15))
          1000000000000000
        """
        if isinstance(number, int):
            if not 0 <= number < 2**64:
                raise ValueError(f"number={number}: must lie in 0..2^64-1")
            return cls(jnp.uint32(number >> 32), jnp.uint32(number & 0xFFFFFFFF))
        low = jnp.asarray(number).astype(jnp.uint32)
        return cls(jnp.zeros_like(low), low)

    @classmethod
    def product(cls, count: Any, each: Any) -> "BitCount":
        """count * each, for a uint32 count and at most 65,535 bits each.

        Example:
          >>> int(BitCount.product(2**31, 64)) == 2**37
          True
        """
        count, each = jnp.asarray(count, jnp.uint32), jnp.asarray(each, jnp.uint32)
        upper = (count >> _HALF) * each
        lower = cls.of((count & 0xFFFF) * each)
        return cls(upper >> _HALF, upper << _HALF).plus(lower)

    def plus(self, other: "BitCount") -> "BitCount":
        """The sum; carries where the low words overflow."""
        low = self.low + other.low
        carry = (low < self.low).astype(jnp.uint32)
        return BitCount(self.high + other.high + carry, low)

    def in_bytes(self) -> "BitCount":
        """Whole bytes that hold so many bits."""
        rounded = self.plus(BitCount.of(7))
        return BitCount(rounded.high >> 3, (rounded.low >> 3) | (rounded.high << 29))

    def if_true(self, condition: jax.Array) -> "BitCount":
        """The count, or zero where the condition does not hold."""
        return BitCount(
            jnp.where(condition, self.high, jnp.zeros_like(self.high)),
            jnp.where(condition, self.low, jnp.zeros_like(self.low)),
        )

    def to_float(self) -> jax.Array:
        """As float32, rounded: for ratios and metrics inside jit."""
        return self.high.astype(jnp.float32) * 2.0**32 + self.low.astype(jnp.float32)

    def _facts(self) -> dict[str, Any]:
        seen = pretty.concrete(self.high)
        if seen is None or seen.ndim:
            return {"high": self.high, "low": self.low}
        return {"count": int(self)}

    def __repr__(self) -> str:
        return pretty.line(self)

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        return pretty.scope(self, path, subtree_renderer)

    def __int__(self) -> int:
        return (int(self.high) << 32) + int(self.low)


def total(counts: list[BitCount]) -> BitCount:
    """Sum of fewer than 65,536 counts.

    Example:
      >>> int(total([BitCount.of(2**32 - 1), BitCount.of(2)])) == 2**32 + 1
      True
    """
    if not counts:
        return BitCount.of(0)
    # As two lists: a chain of sums with carries of hundreds of tensors takes XLA minutes to compile.
    high, low = (jnp.stack(words) for words in zip(*counts, strict=True))
    lower, upper = (jnp.sum(half, axis=0) for half in (low & 0xFFFF, low >> _HALF))
    shifted = BitCount(jnp.sum(high, axis=0) + (upper >> _HALF), upper << _HALF)
    return shifted.plus(BitCount.of(lower))
