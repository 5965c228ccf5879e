"""One payload for a whole tree: exactly K entries, however they spread over the leaves."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparsetrain.payload.base import Payload
from sparsetrain.payload.bit_count import BitCount
from sparsetrain.payload.position_code import parameter_of_count, position_bits
from sparsetrain.payload.sparse import HEADER_BITS

_STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, repr=False)
class SparseTree(Payload):
    """K slots over L leaves, grouped by leaf; the shape is static while the leaves' shares move.

    Attributes:
      values: [K] float, zero in unused slots.
      indices: [K] int32, rising flat positions within their leaf.
      counts: [L] int32, slots of each leaf, in leaf order; they sum to at most K.
      shapes: of the leaves.
      b: remainder bits of the position code over the concatenated leaves; None: the best for
        sum(counts) / entries.
    """

    values: Any
    indices: Any
    counts: Any
    shapes: tuple[tuple[int, ...], ...] = dataclasses.field(metadata=_STATIC)
    b: int | None = dataclasses.field(default=None, metadata=_STATIC)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each leaf."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def entries(self) -> int:
        """N, entries of all leaves."""
        return sum(self.sizes)

    def _sent(self) -> int:
        return int(jnp.sum(self.counts))

    def leaf_of_slot(self) -> jax.Array:
        """[K] int32 number of the leaf that each slot belongs to; L where a slot is unused."""
        ends = jnp.cumsum(self.counts)
        slots = jnp.arange(self.values.shape[0], dtype=ends.dtype)
        return jnp.searchsorted(ends, slots, side="right").astype(jnp.int32)

    def positions(self) -> jax.Array:
        """[K] int32 positions in the concatenation of all leaves; unused slots lie beyond it.

        Raises:
          ValueError: 2^31 entries or more.
        """
        if self.entries >= 2**31:
            raise ValueError(
                f"the tree has {self.entries} entries: positions are int32; split it with optax.partition"
            )
        starts = np.cumsum([0, *self.sizes]).astype(np.int32)
        leaf = self.leaf_of_slot()
        spare = jnp.arange(leaf.shape[0], dtype=jnp.int32)
        inside = jnp.asarray(starts)[leaf] + self.indices
        return jnp.where(leaf < len(self.shapes), inside, self.entries + spare)

    def to_dense(self) -> list[jax.Array]:
        """The leaves, in order."""
        return self.shaped(self.added_to(self.nothing()))

    def nothing(self) -> jax.Array:
        return jnp.zeros((self.entries,), self.values.dtype)

    def added_to(self, total: jax.Array) -> jax.Array:
        # One scatter: one for each of hundreds of leaves would read all K slots every time.
        return total.at[self.positions()].add(self.values, mode="drop", unique_indices=True)

    def shaped(self, total: jax.Array) -> list[jax.Array]:
        parts = jnp.split(total, np.cumsum(self.sizes)[:-1]) if self.shapes else []
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def code_parameter(self) -> jax.Array:
        """Remainder bits of the position code, int32 scalar."""
        if self.b is not None:
            return jnp.int32(self.b)
        return parameter_of_count(jnp.sum(self.counts), self.entries)

    def sections(self) -> dict[str, BitCount]:
        count = jnp.sum(self.counts)
        bits = 8 * self.values.dtype.itemsize
        return {
            "header": BitCount.of(HEADER_BITS),
            "positions": position_bits(self.positions(), count, self.code_parameter()),
            "values": BitCount.product(count, bits),
        }

    def silenced(self, speaks: jax.Array) -> "SparseTree":
        values = jnp.where(speaks, self.values, jnp.zeros_like(self.values))
        counts = jnp.where(speaks, self.counts, jnp.zeros_like(self.counts))
        return dataclasses.replace(self, values=values, counts=counts)
