"""Payloads that say something about every entry: dense, signs, levels, powers of two, two factors."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.payload.base import FLOAT_BITS, Payload
from sparsetrain.payload.bit_count import BitCount

_STATIC = {"static": True}
_MANTISSA_BITS = 23


def _zero_unless(speaks: jax.Array, array: jax.Array) -> jax.Array:
    return jnp.where(speaks, array, jnp.zeros_like(array))


def _bits(entries: int, each: int) -> BitCount:
    return BitCount.of(entries * each)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, repr=False)
class Dense(Payload):
    """The tensor itself.

    Attributes:
      values: float array of the tensor's shape.
    """

    values: Any

    def to_dense(self) -> jax.Array:
        return self.values

    def sections(self) -> dict[str, BitCount]:
        return {"values": _bits(self.values.size, 8 * self.values.dtype.itemsize)}

    def silenced(self, speaks: jax.Array) -> "Dense":
        return Dense(_zero_unless(speaks, self.values))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, repr=False)
class Sign(Payload):
    """One bit an entry, and the value that each of the two stands for.

    Attributes:
      bits: uint8 [ceil(n / 8)], as `numpy.packbits` writes them; 1 where the entry is >= 0.
      low: float scalar, value of a 0.
      high: float scalar, value of a 1.
      shape: of the tensor.
      scales: how many numbers have to be sent: 0 (values fixed), 1 (low = -high) or 2.
    """

    bits: Any
    low: Any
    high: Any
    shape: tuple[int, ...] = dataclasses.field(metadata=_STATIC)
    scales: int = dataclasses.field(default=2, metadata=_STATIC)

    @classmethod
    def pack(cls, is_high: jax.Array, low: jax.Array, high: jax.Array, scales: int) -> "Sign":
        """From a bool array of the tensor's shape."""
        return cls(jnp.packbits(is_high.reshape(-1)), low, high, is_high.shape, scales)

    def to_dense(self) -> jax.Array:
        flat = jnp.unpackbits(self.bits, count=math.prod(self.shape))
        return jnp.where(flat == 1, self.high, self.low).reshape(self.shape)

    def sections(self) -> dict[str, BitCount]:
        return {
            "scales": _bits(self.scales, FLOAT_BITS),
            "signs": _bits(math.prod(self.shape), 1),
        }

    def silenced(self, speaks: jax.Array) -> "Sign":
        low, high = _zero_unless(speaks, self.low), _zero_unless(speaks, self.high)
        return dataclasses.replace(self, low=low, high=high)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, repr=False)
class Quantized(Payload):
    """Signed levels on a grid with one norm a bucket.

    Attributes:
      levels: int8, int16 or int32 [n], in -s..s.
      norms: float [buckets].
      shape: of the tensor.
      s: levels on each side of zero.
      bucket: entries that share a norm.
    """

    levels: Any
    norms: Any
    shape: tuple[int, ...] = dataclasses.field(metadata=_STATIC)
    s: int = dataclasses.field(default=1, metadata=_STATIC)
    bucket: int = dataclasses.field(default=1, metadata=_STATIC)

    def to_dense(self) -> jax.Array:
        entries = math.prod(self.shape)
        norms = jnp.repeat(
            self.norms, self.bucket, total_repeat_length=self.norms.size * self.bucket
        )
        return (self.levels.astype(self.norms.dtype) / self.s * norms[:entries]).reshape(self.shape)

    @property
    def level_bits(self) -> int:
        """Bits of one level at a fixed width: sign and magnitude."""
        return 1 + math.ceil(math.log2(self.s + 1))

    def sections(self) -> dict[str, BitCount]:
        return {
            "norms": _bits(self.norms.size, FLOAT_BITS),
            "levels": _bits(math.prod(self.shape), self.level_bits),
        }

    def silenced(self, speaks: jax.Array) -> "Quantized":
        return dataclasses.replace(self, norms=_zero_unless(speaks, self.norms))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, repr=False)
class Natural(Payload):
    """Signed powers of two: sign and exponent of a float32.

    Attributes:
      codes: uint16 [n], the upper nine bits of the number.
      shape: of the tensor.
    """

    codes: Any
    shape: tuple[int, ...] = dataclasses.field(metadata=_STATIC)

    def to_dense(self) -> jax.Array:
        bits = self.codes.astype(jnp.uint32) << _MANTISSA_BITS
        return jax.lax.bitcast_convert_type(bits, jnp.float32).reshape(self.shape)

    def sections(self) -> dict[str, BitCount]:
        return {"codes": _bits(math.prod(self.shape), FLOAT_BITS - _MANTISSA_BITS)}

    def silenced(self, speaks: jax.Array) -> "Natural":
        return dataclasses.replace(self, codes=_zero_unless(speaks, self.codes))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, repr=False)
class LowRank(Payload):
    """A matrix as the product p q^T.

    Attributes:
      p: float [n, r].
      q: float [m, r].
      shape: of the tensor, with n * m entries.
    """

    p: Any
    q: Any
    shape: tuple[int, ...] = dataclasses.field(metadata=_STATIC)

    def to_dense(self) -> jax.Array:
        return (self.p @ self.q.T).reshape(self.shape)

    def sections(self) -> dict[str, BitCount]:
        return {"p": _bits(self.p.size, FLOAT_BITS), "q": _bits(self.q.size, FLOAT_BITS)}

    def silenced(self, speaks: jax.Array) -> "LowRank":
        return dataclasses.replace(self, p=_zero_unless(speaks, self.p))
