"""A payload of one of two parts: the tensor itself in the first rounds, its factors later."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import varying
from sparsetrain.payload.base import Payload
from sparsetrain.payload.bit_count import BitCount

# Which part follows, as a whole byte.
_FLAG_BITS = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False, repr=False)
class DenseAtFirst(Payload):
    """The tensor itself in the first rounds, its factors later: which one is data.

    Attributes:
      dense: `Dense`, sent while `is_dense`.
      factors: `LowRank`, sent afterwards.
      is_dense: bool scalar.
    """

    dense: Any
    factors: Any
    is_dense: Any

    def to_dense(self) -> jax.Array:
        return varying.cond(self.is_dense, self.dense.to_dense, self.factors.to_dense)

    def sections(self) -> dict[str, BitCount]:
        is_dense = jnp.asarray(self.is_dense)
        parts = {"header": BitCount.of(_FLAG_BITS)}
        for part, is_sent in ((self.dense, is_dense), (self.factors, ~is_dense)):
            parts |= {name: bits.if_true(is_sent) for name, bits in part.sections().items()}
        return parts

    def silenced(self, speaks: jax.Array) -> "DenseAtFirst":
        return DenseAtFirst(
            self.dense.silenced(speaks), self.factors.silenced(speaks), self.is_dense
        )
