"""The definition, and what runs where no kernel does: blocks are gathered, then one dense product."""

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.kernels.column_blocks import gather


def block_column_matmul(
    g: jax.Array, w: jax.Array, blocks: jax.Array, block: int, axis: int
) -> jax.Array:
    """See the package.

    Args:
      g: [B, O].
      w: [O, I] (axis 0) or [I, O] (axis 1).
      blocks: int32 [nb].
      block: columns of a block.
      axis: of the outputs in w.
    """
    kept, kept_w = gather(g, blocks, block, 1), gather(w, blocks, block, axis)
    wide = jnp.promote_types(g.dtype, jnp.float32)
    outputs_contracted = (((1,), (axis,)), ((), ()))
    product = lax.dot_general(kept, kept_w, outputs_contracted, preferred_element_type=wide)
    return product.astype(g.dtype)
