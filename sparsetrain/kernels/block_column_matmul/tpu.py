"""On a TPU: the list of blocks reaches the index maps of the copies, nothing is gathered."""

from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.kernels.block_column_matmul.factors import factors
from sparsetrain.kernels.tile_product import pad_rows
from sparsetrain.kernels.tile_product.tpu import lane_tile, row_tile, tile_product

ROWS, COLUMNS = 512, 1024  # of a tile, at most


def block_column_matmul(
    g: jax.Array, w: jax.Array, blocks: jax.Array, block: int, axis: int, **options: Any
) -> jax.Array:
    """As the reference.

    Args:
      g: [B, O] bfloat16.
      w: [O, I] (axis 0) or [I, O] (axis 1) of that dtype, I a multiple of 128.
      blocks: int32 [nb].
      block: columns of a block, 128.
      axis: of the outputs in w.
      **options: of `pallas_call`, such as `interpret`.
    """
    batch, inputs, steps = g.shape[0], w.shape[1 - axis], blocks.shape[0]
    tile = (row_tile(batch, ROWS), lane_tile(inputs, COLUMNS))
    g = pad_rows(g, tile[0])
    dx = tile_product(
        *factors(g, w, block, axis, block),
        [blocks.astype(jnp.int32)],
        shape=(g.shape[0], inputs),
        tile=tile,
        depth=block,
        grid=(g.shape[0] // tile[0], inputs // tile[1], steps),
        place=lambda lists, i, j, step: (i, j),
        span=lambda lists, i, j, step: (step == 0, True, step == steps - 1),
        **options,
    )
    return dx[:batch]
