"""On a GPU from Hopper on: a tile of the result a thread block, fed by a pipeline of copies, by Mosaic GPU.

Operands of a tile of 128 x 128 are 32 KiB a step; three steps, with the result in the same memory afterwards, leave
room for two thread blocks on a multiprocessor: one multiplies while the other starts or stores.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsetrain import varying
from sparsetrain.kernels.tile_product import Factor, alike

DEPTH = 64  # of the contracted axis a step: with 16 bits an entry one swizzled row of 128 bytes
STAGES = 3
ROWS = (
    64,
    128,
)  # tiles of an axis that need not be a multiple; the smallest is that of the instruction
SWIZZLED = (plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128))


def tile_product(
    left: Factor,
    right: Factor,
    lists: Sequence[jax.Array],
    *,
    grid: tuple[int, int],
    tile: tuple[int, int],
    steps: Callable[..., Any],
    **options: Any,
) -> jax.Array:
    """Sums the products in float32.

    Args:
      left: 16-bit floats; tiles of [tile[0], DEPTH], or transposed.
      right: of the same dtype; tiles of [DEPTH, tile[1]], or transposed.
      lists: int32, what `place` and `steps` look up.
      grid: tiles of the result along its axes. Neighbours along the last run at the same time.
      tile: of the result; 64 or 128 each.
      steps: (lists, i, j) -> how many products make up that tile. Without any it is zeros.
      **options: of `plgpu.kernel`, such as `interpret`.

    Returns:
      [grid[0] * tile[0], grid[1] * tile[1]] of the factors' dtype.
    """
    dtype = left.array.dtype

    def body(*refs: Any) -> None:
        *looked_up, left_ref, right_ref, out_ref = refs
        i, j = lax.axis_index("i"), lax.axis_index("j")

        def tiles_of(factor: Factor, shape: tuple[int, int]) -> plgpu.BlockSpec:
            return plgpu.BlockSpec(
                shape[::-1] if factor.is_transposed else shape,
                functools.partial(factor.place, looked_up, i, j),
                delay_release=1,  # what the last product still reads is not overwritten
                transforms=SWIZZLED,
            )

        def summed(total: Any) -> jax.Array:
            def step(_: Any, left_tile: Any, right_tile: Any) -> None:
                plgpu.wgmma(
                    total,
                    left_tile.T if left.is_transposed else left_tile,
                    right_tile.T if right.is_transposed else right_tile,
                )
                plgpu.wgmma_wait(1)

            plgpu.emit_pipeline(
                step,
                grid=(steps(looked_up, i, j),),
                in_specs=[tiles_of(left, (tile[0], DEPTH)), tiles_of(right, (DEPTH, tile[1]))],
                max_concurrent_steps=STAGES,
            )(left_ref, right_ref)
            return total[...].astype(dtype)

        def store(staged: Any) -> None:
            staged[...] = result
            plgpu.commit_smem()
            where = (pl.ds(i * tile[0], tile[0]), pl.ds(j * tile[1], tile[1]))
            plgpu.copy_smem_to_gmem(staged, out_ref.at[where])
            plgpu.wait_smem_to_gmem(0)

        # One scope after the other, so that they share memory.
        result = pl.run_scoped(summed, plgpu.ACC(tile, jnp.float32))
        pl.run_scoped(store, plgpu.SMEM(tile, dtype, transforms=SWIZZLED))

    shape = (grid[0] * tile[0], grid[1] * tile[1])
    operands, result_type = alike((*lists, left.array, right.array), shape, dtype)
    run = plgpu.kernel(
        body,
        out_type=result_type,
        grid=grid,
        grid_names=("i", "j"),
        **options,
    )
    # `plgpu.kernel` returns what is the same on all devices, whatever type it was asked for.
    return varying.over(varying.axes_of(operands), run(*operands))


def row_tile(rows: int) -> int:
    """Tile of an axis of any length, which is padded to a multiple of it.

    Example:
      >>> row_tile(3), row_tile(64), row_tile(65), row_tile(8192)
      (64, 64, 128, 128)
    """
    return ROWS[0] if rows <= ROWS[0] else ROWS[1]
