"""Payloads of some positions: values, values alone, one shared value, or one magnitude with signs."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.payload.base import FLOAT_BITS, Payload
from sparsetrain.payload.bit_count import BitCount
from sparsetrain.payload.position_code import parameter_of_count, position_bits

_STATIC = {"static": True}
COUNT_BITS = 32
# Number of used slots and the parameter of the position code (8 bits).
HEADER_BITS = COUNT_BITS + 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, repr=False)
class _Positions(Payload):
    """Rising positions in a tensor; the first `count` slots are used.

    Attributes:
      indices: [K] int32, rising flat positions; unused slots hold the number of entries.
      count: int32 scalar, slots in use.
      shape: of the tensor.
      b: remainder bits of the position code; None: the best for count / entries.
    """

    indices: Any
    count: Any
    shape: tuple[int, ...] = dataclasses.field(metadata=_STATIC)
    b: int | None = dataclasses.field(default=None, metadata=_STATIC)

    @property
    def entries(self) -> int:
        """n, number of entries of the tensor."""
        return math.prod(self.shape)

    def _sent(self) -> int:
        return int(self.count)

    def is_used(self) -> jax.Array:
        """[K] bool."""
        return jnp.arange(self.indices.shape[0]) < self.count

    def code_parameter(self) -> jax.Array:
        """Remainder bits of the position code, int32 scalar."""
        if self.b is not None:
            return jnp.int32(self.b)
        return parameter_of_count(self.count, self.entries)

    def position_sections(self) -> dict[str, BitCount]:
        """Header and positions."""
        return {
            "header": BitCount.of(HEADER_BITS),
            "positions": position_bits(self.indices, self.count, self.code_parameter()),
        }

    def scattered(self, values: jax.Array) -> jax.Array:
        """Zeros of the tensor's shape with `values` [K] at the used positions."""
        flat = jnp.zeros((self.entries,), values.dtype)
        flat = flat.at[self.indices].set(values, mode="drop", unique_indices=True)
        return flat.reshape(self.shape)

    def nothing(self) -> jax.Array:
        return jnp.zeros((self.entries,), self.slot_values().dtype)

    def added_to(self, total: jax.Array) -> jax.Array:
        # Only the used entries are touched.
        return total.at[self.indices].add(self.slot_values(), mode="drop", unique_indices=True)

    def shaped(self, total: jax.Array) -> jax.Array:
        return total.reshape(self.shape)

    def to_dense(self) -> jax.Array:
        return self.scattered(self.slot_values())

    def slot_values(self) -> jax.Array:
        """[K] float, values of the slots, zero in unused ones."""
        raise NotImplementedError

    def _unused_if_silent(self, speaks: jax.Array) -> dict[str, Any]:
        # Distinct numbers beyond the tensor, so that scatters may still take them for unique.
        return {
            "indices": jnp.where(speaks, self.indices, beyond(self.entries, self.indices.shape[0])),
            "count": jnp.where(speaks, self.count, 0),
        }


def beyond(entries: int, slots: int) -> jax.Array:
    """[slots] int32 distinct positions behind the last entry: what unused slots hold.

    Example:
      >>> beyond(10, 3).tolist()
      [10, 11, 12]
    """
    return entries + jnp.arange(slots, dtype=jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class Sparse(_Positions):
    """Entries with their values.

    Attributes:
      values: [K] float, zero in unused slots.
    """

    values: Any

    def slot_values(self) -> jax.Array:
        return self.values

    def sections(self) -> dict[str, BitCount]:
        bits = 8 * self.values.dtype.itemsize
        return {**self.position_sections(), "values": BitCount.product(self.count, bits)}

    def silenced(self, speaks: jax.Array) -> "Sparse":
        values = jnp.where(speaks, self.values, jnp.zeros_like(self.values))
        return dataclasses.replace(self, values=values, **self._unused_if_silent(speaks))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class AgreedSparse(Sparse):
    """Entries at positions that all workers know beforehand: only values are sent."""

    def sections(self) -> dict[str, BitCount]:
        bits = 8 * self.values.dtype.itemsize
        # The count is common property too; it tells a receiver who agreed on something else.
        return {
            "header": BitCount.of(COUNT_BITS),
            "values": BitCount.product(self.count, bits),
        }

    def silenced(self, speaks: jax.Array) -> "AgreedSparse":
        # The positions are common property: who sends nothing still receives the others' values.
        values = jnp.where(speaks, self.values, jnp.zeros_like(self.values))
        return dataclasses.replace(self, values=values)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class SparseBinary(_Positions):
    """Positions that all hold one value.

    Attributes:
      mean: float scalar, of either sign.
    """

    mean: Any

    def slot_values(self) -> jax.Array:
        return jnp.where(self.is_used(), self.mean, jnp.zeros_like(self.mean))

    def sections(self) -> dict[str, BitCount]:
        return {**self.position_sections(), "mean": BitCount.of(FLOAT_BITS)}

    def silenced(self, speaks: jax.Array) -> "SparseBinary":
        mean = jnp.where(speaks, self.mean, jnp.zeros_like(self.mean))
        return dataclasses.replace(self, mean=mean, **self._unused_if_silent(speaks))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class SparseTernary(_Positions):
    """Positions that all hold one magnitude, each with its sign.

    Attributes:
      mean: float scalar >= 0.
      negative: [K] bool.
    """

    mean: Any
    negative: Any

    def slot_values(self) -> jax.Array:
        values = jnp.where(self.negative, -self.mean, self.mean)
        return jnp.where(self.is_used(), values, jnp.zeros_like(values))

    def sections(self) -> dict[str, BitCount]:
        mean = BitCount.of(FLOAT_BITS)
        return {**self.position_sections(), "mean": mean, "signs": BitCount.of(self.count)}

    def silenced(self, speaks: jax.Array) -> "SparseTernary":
        mean = jnp.where(speaks, self.mean, jnp.zeros_like(self.mean))
        return dataclasses.replace(self, mean=mean, **self._unused_if_silent(speaks))
