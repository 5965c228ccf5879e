"""On a GPU from Hopper on, by Mosaic GPU: one warpgroup of a thread block copies, the others multiply.

Tiles come from the L2 cache, whose rate limits the product, and that of the tile sets how often they come: 256 x 128
takes 48 bytes a cycle for a multiprocessor at full speed, 128 x 128 takes 64. Larger tiles do not fit the registers.
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
# Newer versions of JAX declare a method of these that they do not have.
SWIZZLED = (
    plgpu.TilingTransform((8, 64)),  # type: ignore[abstract]
    plgpu.SwizzleTransform(128),  # type: ignore[abstract]
)
ENTRY = 2  # bytes
SHARED = 226 * 1024  # bytes of a thread block, less what barriers take
STAGES = 4  # steps in flight, at most
COPYING_REGISTERS = 40
ROWS = 64  # of one instruction
MULTIPROCESSORS = 132


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
      tile: of the result; 64, 128 or 256 rows and 64 or 128 columns.
      steps: (lists, i, j) -> how many products make up that tile. Without any it is zeros.
      **options: of `plgpu.kernel`, such as `interpret`.

    Returns:
      [grid[0] * tile[0], grid[1] * tile[1]] of the factors' dtype.
    """
    dtype = left.array.dtype
    multiplying = 1 if tile[0] == ROWS else 2  # warpgroups, each with its rows of the tile
    part = (tile[0] // multiplying, tile[1])
    left_tile, right_tile = (tile[0], DEPTH), (DEPTH, tile[1])

    def body(*refs: Any) -> None:
        *looked_up, left_ref, right_ref, out_ref, staged = refs
        i, j, who = (lax.axis_index(name) for name in ("i", "j", "warpgroup"))
        rows = pl.ds(who * part[0], part[0])

        def tiles_of(factor: Factor, shape: tuple[int, int]) -> plgpu.BlockSpec:
            return plgpu.BlockSpec(
                shape[::-1] if factor.is_transposed else shape,
                functools.partial(factor.place, looked_up, i, j),
                delay_release=1,  # what the last product still reads is not overwritten
                transforms=SWIZZLED,
            )

        def step(_: Any, left_ref: Any, right_ref: Any, total: Any) -> Any:
            a = left_ref.at[:, rows].T if left.is_transposed else left_ref.at[rows]
            plgpu.wgmma(total, a, right_ref.T if right.is_transposed else right_ref)
            plgpu.wgmma_wait(1)
            return total

        def multiply(run_steps: Callable[[Any], Any]) -> None:
            def summed(total: Any) -> jax.Array:
                run_steps(total)
                return total[...].astype(dtype)

            staged[rows] = pl.run_scoped(summed, plgpu.ACC(part, jnp.float32))
            plgpu.commit_smem()
            where = (
                pl.ds(i * tile[0] + who * part[0], part[0]),
                pl.ds(j * tile[1], tile[1]),
            )
            plgpu.copy_smem_to_gmem(staged.at[rows], out_ref.at[where])
            plgpu.wait_smem_to_gmem(0)

        plgpu.emit_pipeline_warp_specialized(
            step,
            grid=(steps(looked_up, i, j),),
            in_specs=[tiles_of(left, left_tile), tiles_of(right, right_tile)],
            max_concurrent_steps=stages(tile),
            memory_registers=COPYING_REGISTERS,
            num_compute_wgs=multiplying,
            wg_axis="warpgroup",
            compute_context=multiply,
        )(left_ref, right_ref)

    shape = (grid[0] * tile[0], grid[1] * tile[1])
    operands, result_type = alike((*lists, left.array, right.array), shape, dtype)
    run = plgpu.kernel(
        body,
        out_type=result_type,
        scratch_types=[plgpu.SMEM(tile, dtype, transforms=SWIZZLED)],
        grid=grid,
        grid_names=("i", "j"),
        num_threads=multiplying + 1,
        thread_name="warpgroup",
        **options,
    )
    # `plgpu.kernel` returns what is the same on all devices, whatever type it was asked for.
    return varying.over(varying.axes_of(operands), run(*operands))


def stages(tile: tuple[int, int]) -> int:
    """How many steps are in flight: what fits beside the result.

    Example:
      >>> stages((256, 128)), stages((128, 128))
      (3, 4)
    """
    result, step = tile[0] * tile[1] * ENTRY, (tile[0] + tile[1]) * DEPTH * ENTRY
    return min(STAGES, (SHARED - result) // step)


def row_tile(rows: int, across: int) -> int:
    """Tile of an axis of any length, which is padded to a multiple: the largest that keeps the device busy.

    Args:
      rows: length.
      across: tiles along the other axis.

    Example:
      >>> row_tile(64, 32), row_tile(512, 32), row_tile(8192, 32)
      (64, 128, 256)
    """
    if rows <= ROWS:
        return ROWS
    return 4 * ROWS if rows // (4 * ROWS) * across >= MULTIPROCESSORS else 2 * ROWS
