"""What every payload can do: become dense again, count its bits, send nothing."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain import pretty
from sparsetrain.payload.bit_count import BitCount, total

FLOAT_BITS = 32


class Payload:
    """What a compressor sends of one tensor (or of a whole tree, for `SparseTree`).

    Subclasses are pytrees of arrays with static shapes, so they pass through jit, vmap and
    collectives. What moves from step to step, such as how many slots are used, is data.
    """

    def to_dense(self) -> Any:
        """What the receiver reconstructs: an array of the tensor's shape, float."""
        raise NotImplementedError

    def sections(self) -> dict[str, BitCount]:
        """Bits of each part of the message, by name; "header" is what a receiver must be told besides.

        On the wire every section begins at a whole byte.
        """
        raise NotImplementedError

    def nothing(self) -> jax.Array:
        """Zeros to which payloads of this shape can be added."""
        dense = jax.eval_shape(lambda: self.to_dense())
        return jnp.zeros(dense.shape, dense.dtype)

    def added_to(self, total: jax.Array) -> jax.Array:
        """A sum of dense forms with this one in it."""
        return total + self.to_dense()

    def shaped(self, total: jax.Array) -> Any:
        """Such a sum as `to_dense` would return it."""
        return total

    def silenced(self, speaks: jax.Array) -> "Payload":
        """The payload, or one that decodes to zeros where `speaks` (bool scalar) is false."""
        raise NotImplementedError

    def payload_bits(self) -> BitCount:
        """Bits as the papers count them: positions, values and means, no header, no padding."""
        return total([bits for name, bits in self.sections().items() if name != "header"])

    def wire_bytes(self) -> BitCount:
        """Bytes of the record on the wire: header and padding included, the frame around it not."""
        return total([bits.in_bytes() for bits in self.sections().values()])

    def _facts(self) -> dict[str, Any]:
        """Shape, density and bits, as far as they can be seen; of stacked payloads no more than their type."""
        if any(pretty.concrete(leaf) is None for leaf in jax.tree.leaves(self)):
            return {"shape": getattr(self, "shape", None)}
        try:
            dense = jax.eval_shape(lambda: self.to_dense())
            shapes = [leaf.shape for leaf in jax.tree.leaves(dense)]
            bits = int(self.payload_bits())
        except (TypeError, ValueError, IndexError):
            return {"leaves": [pretty.brief(leaf) for leaf in jax.tree.leaves(self)]}
        entries = sum(math.prod(shape) for shape in shapes)
        sent = self._sent()
        return {
            "shape": shapes[0] if len(shapes) == 1 else shapes,
            "sent": pretty.part(entries if sent is None else sent, entries),
            "bits": bits,
        }

    def _sent(self) -> int | None:
        """Entries that something is said of; None for all."""
        return None

    # Dataclasses of payloads leave both to this class: repr=False.
    __repr__ = pretty.line
    __treescope_repr__ = pretty.scope


def is_payload(node: Any) -> bool:
    """Whether a node of a tree is a payload; made for `is_leaf=`."""
    return isinstance(node, Payload)
