"""On a TPU: the grid walks over tiles and steps, and the lists tell its copies ahead of time what to bring."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sparsetrain.kernels.tile_product import Factor, Place, alike

LANES = 128
SUBLANES = 16  # of 16-bit entries
Span = Callable[..., tuple[Any, Any, Any]]


def tile_product(
    left: Factor,
    right: Factor,
    lists: Sequence[jax.Array],
    *,
    shape: tuple[int, int],
    tile: tuple[int, int],
    depth: int,
    grid: tuple[int | jax.Array, ...],
    place: Place,
    span: Span,
    onto: jax.Array | None = None,
    **options: Any,
) -> jax.Array:
    """Sums the products in float32.

    Args:
      left: bfloat16; tiles of [tile[0], depth], or transposed.
      right: of the same dtype; tiles of [depth, tile[1]], or transposed.
      lists: int32, what the functions look up.
      shape: of the result.
      tile: of the result.
      depth: of the contracted axis in a step.
      grid: points; along the last axis one after the other. A length may be known only at run time, >= 1.
      place: as that of a factor: (lists, *point) -> row and column of a tile of the result.
      span: (lists, *point) -> whether a point is the first of its tile, multiplies at all, and is the last.
      onto: array whose buffer becomes the result; tiles that no point visits stay as they are there.
      **options: of `pallas_call`, such as `interpret`.

    Returns:
      `shape`, of the factors' dtype.
    """

    def tiles_of(shape: tuple[int, int], place: Place) -> pl.BlockSpec:
        def index(*point_and_lists: Any) -> tuple[Any, Any]:
            return place(point_and_lists[len(grid) :], *point_and_lists[: len(grid)])

        return pl.BlockSpec(shape, index)

    def factor_tiles(factor: Factor, shape: tuple[int, int]) -> pl.BlockSpec:
        return tiles_of(shape[::-1] if factor.is_transposed else shape, factor.place)

    def body(*refs: Any) -> None:
        looked_up = refs[: len(lists)]
        left_ref, right_ref = refs[len(lists) : len(lists) + 2]
        out_ref, total = refs[-2:]
        is_first, is_live, is_last = span(
            looked_up, *(pl.program_id(axis) for axis in range(len(grid)))
        )

        @pl.when(is_first)
        def _() -> None:
            total[...] = jnp.zeros_like(total)

        @pl.when(is_live)
        def _() -> None:
            contracted = ((1 - left.is_transposed,), (0 + right.is_transposed,))
            total[...] += lax.dot_general(
                left_ref[...],
                right_ref[...],
                (contracted, ((), ())),
                preferred_element_type=jnp.float32,
            )

        @pl.when(is_last)
        def _() -> None:
            out_ref[...] = total[...].astype(out_ref.dtype)

    extra = () if onto is None else (onto,)
    operands, result = alike((*lists, left.array, right.array, *extra), shape, left.array.dtype)
    semantics = [
        pltpu.PARALLEL if isinstance(length, int) else pltpu.ARBITRARY for length in grid[:-1]
    ]
    return pl.pallas_call(
        body,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(lists),
            grid=grid,
            in_specs=[
                factor_tiles(left, (tile[0], depth)),
                factor_tiles(right, (depth, tile[1])),
                *(pl.BlockSpec(memory_space=pl.ANY) for _ in extra),
            ],
            out_specs=tiles_of(tile, place),
            scratch_shapes=[pltpu.VMEM(tile, jnp.float32)],
        ),
        out_shape=result,
        input_output_aliases={} if onto is None else {len(lists) + 2: 0},
        compiler_params=pltpu.CompilerParams(dimension_semantics=(*semantics, pltpu.ARBITRARY)),
        **options,
    )(*operands)


def row_tile(rows: int, most: int) -> int:
    """Even parts of an axis of any length, which is padded to a multiple of them.

    Args:
      rows: length.
      most: of a tile.

    Example:
      >>> row_tile(3, 512), row_tile(600, 512), row_tile(8192, 512)
      (16, 304, 512)
    """
    parts = pl.cdiv(rows, most)
    return pl.cdiv(rows, parts * SUBLANES) * SUBLANES


def lane_tile(columns: int, most: int) -> int:
    """The largest tile of an axis of a multiple of 128.

    Args:
      columns: length, a multiple of 128.
      most: of a tile.

    Example:
      >>> lane_tile(4096, 1024), lane_tile(640, 512), lane_tile(384, 1024)
      (1024, 128, 384)
    """
    tiles = range(LANES, min(columns, most) + 1, LANES)
    return max(tile for tile in tiles if columns % tile == 0)
