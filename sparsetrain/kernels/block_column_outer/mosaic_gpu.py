"""On a GPU from Hopper on: every thread block adds up its tile of the compact result along the whole batch."""

from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.kernels.block_column_outer.factors import factors
from sparsetrain.kernels.tile_product import pad_rows
from sparsetrain.kernels.tile_product.mosaic_gpu import DEPTH, tile_product

COLUMNS = 128  # of I in a tile


def block_column_outer(
    g: jax.Array, x: jax.Array, blocks: jax.Array, block: int, axis: int, **options: Any
) -> jax.Array:
    """As the reference.

    Args:
      g: [B, O] bfloat16 or float16.
      x: [B, I] of that dtype, I a multiple of 128.
      blocks: int32 [nb].
      block: columns of a block, 64 or 128.
      axis: of the outputs in the result.
      **options: of `plgpu.kernel`, such as `interpret`.
    """
    g, x = pad_rows(g, DEPTH), pad_rows(x, DEPTH)  # rows of zeros add nothing
    tile, grid = (block, COLUMNS), (blocks.shape[0], x.shape[1] // COLUMNS)
    return tile_product(
        *factors(g, x, block, axis),
        [blocks.astype(jnp.int32)],
        grid=grid if axis == 0 else grid[::-1],
        tile=tile if axis == 0 else tile[::-1],
        steps=lambda lists, i, j: g.shape[0] // DEPTH,
        **options,
    )
