"""The definition, and what runs where no kernel does: blocks are gathered, then one dense product."""

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.kernels.column_blocks import gather


def block_column_outer(
    g: jax.Array, x: jax.Array, blocks: jax.Array, block: int, axis: int
) -> jax.Array:
    """See the package.

    Args:
      g: [B, O].
      x: [B, I].
      blocks: int32 [nb].
      block: columns of a block.
      axis: of the outputs in the result.
    """
    kept = gather(g, blocks, block, 1)
    first, second = (kept, x) if axis == 0 else (x, kept)
    wide = jnp.promote_types(g.dtype, jnp.float32)
    rows_contracted = (((0,), (0,)), ((), ()))
    return lax.dot_general(first, second, rows_contracted, preferred_element_type=wide).astype(
        g.dtype
    )
