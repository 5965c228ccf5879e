"""On a GPU from Hopper on: the list of blocks says which tiles the pipeline copies, nothing is gathered."""

from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.kernels.block_column_matmul.factors import factors
from sparsetrain.kernels.tile_product import pad_rows
from sparsetrain.kernels.tile_product.mosaic_gpu import DEPTH, row_tile, tile_product

COLUMNS = 128  # of I in a tile


def block_column_matmul(
    g: jax.Array, w: jax.Array, blocks: jax.Array, block: int, axis: int, **options: Any
) -> jax.Array:
    """As the reference.

    Args:
      g: [B, O] bfloat16 or float16.
      w: [O, I] (axis 0) or [I, O] (axis 1) of that dtype, I a multiple of 128.
      blocks: int32 [nb].
      block: columns of a block, 64 or 128.
      axis: of the outputs in w.
      **options: of `plgpu.kernel`, such as `interpret`.
    """
    batch, inputs = g.shape[0], w.shape[1 - axis]
    rows = row_tile(batch, inputs // COLUMNS)
    g = pad_rows(g, rows)
    dx = tile_product(
        *factors(g, w, block, axis, DEPTH),
        [blocks.astype(jnp.int32)],
        grid=(g.shape[0] // rows, inputs // COLUMNS),
        tile=(rows, COLUMNS),
        steps=lambda lists, i, j: blocks.shape[0] * block // DEPTH,
        **options,
    )
    return dx[:batch]
