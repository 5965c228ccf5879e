"""On a TPU: a tile of the compact result is added up along the whole batch."""

from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.kernels.block_column_outer.factors import factors
from sparsetrain.kernels.tile_product import pad_rows
from sparsetrain.kernels.tile_product.tpu import lane_tile, row_tile, tile_product

DEPTH, COLUMNS = 1024, 1024  # of B a step and of I in a tile, at most


def block_column_outer(
    g: jax.Array, x: jax.Array, blocks: jax.Array, block: int, axis: int, **options: Any
) -> jax.Array:
    """As the reference.

    Args:
      g: [B, O] bfloat16.
      x: [B, I] of that dtype, I a multiple of 128.
      blocks: int32 [nb].
      block: columns of a block, 128.
      axis: of the outputs in the result.
      **options: of `pallas_call`, such as `interpret`.
    """
    depth = row_tile(g.shape[0], DEPTH)
    g, x = pad_rows(g, depth), pad_rows(x, depth)  # rows of zeros add nothing
    steps = g.shape[0] // depth
    tile = (block, lane_tile(x.shape[1], COLUMNS))
    grid = (blocks.shape[0], x.shape[1] // tile[1])
    if axis == 1:
        tile, grid = tile[::-1], grid[::-1]
    return tile_product(
        *factors(g, x, block, axis),
        [blocks.astype(jnp.int32)],
        shape=(grid[0] * tile[0], grid[1] * tile[1]),
        tile=tile,
        depth=depth,
        grid=(*grid, steps),
        place=lambda lists, i, j, step: (i, j),
        span=lambda lists, i, j, step: (step == 0, True, step == steps - 1),
        **options,
    )
