"""On a TPU: the grid walks along the live blocks, however many there are; of the dead ones no step is made."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import custom_batching

from sparsetrain.kernels.block_sparse_matmul.live import walk
from sparsetrain.kernels.tile_product import Factor, pad_rows
from sparsetrain.kernels.tile_product.tpu import row_tile, tile_product

ROWS, DEPTH = 2048, 2048  # of M in a tile and in a step, at most


def forward(x: jax.Array, w: jax.Array, live: jax.Array, **options: Any) -> jax.Array:
    """As the reference.

    Args:
      x: [M, I] bfloat16.
      w: [I, O] of that dtype.
      live: bool [I / 128, O / 128].
      **options: of `pallas_call`, such as `interpret`.
    """
    return _along(x, w, live.T, False, options)


def input_gradient(dy: jax.Array, w: jax.Array, live: jax.Array, **options: Any) -> jax.Array:
    """As the reference.

    Args:
      dy: [M, O] bfloat16.
      w: [I, O] of that dtype.
      live: bool [I / 128, O / 128].
      **options: of `pallas_call`, such as `interpret`.
    """
    return _along(dy, w, live, True, options)


def weight_gradient(x: jax.Array, dy: jax.Array, live: jax.Array, **options: Any) -> jax.Array:
    """As the reference; the zeros of dead blocks are what the result is written into.

    Args:
      x: [M, I] bfloat16.
      dy: [M, O] of that dtype.
      live: bool [I / 128, O / 128].
      **options: of `pallas_call`, such as `interpret`.
    """
    # Under vmap one after the other: a result that is written into zeros has no further axis.
    run = custom_batching.sequential_vmap(functools.partial(_weight_gradient, options))
    return run(x, dy, live)


def _weight_gradient(
    options: dict[str, Any], x: jax.Array, dy: jax.Array, live: jax.Array
) -> jax.Array:
    shape, across = (x.shape[1], dy.shape[1]), live.shape[1]
    block = shape[1] // across
    depth = row_tile(x.shape[0], DEPTH)
    x, dy = pad_rows(x, depth), pad_rows(dy, depth)  # rows of zeros add nothing
    steps = x.shape[0] // depth
    found = walk(live)

    def cell(lists: Any, turn: Any, step: Any) -> tuple[Any, Any]:
        return lists[0][turn] // across, lists[0][turn] % across

    def span(lists: Any, turn: Any, step: Any) -> tuple[Any, Any, Any]:
        return step == 0, turn < lists[1][0], step == steps - 1

    return tile_product(
        Factor(x, lambda *at: (at[-1], cell(*at)[0]), is_transposed=True),
        Factor(dy, lambda *at: (at[-1], cell(*at)[1])),
        [found.cells, jnp.sum(live, dtype=jnp.int32).reshape(1)],
        shape=shape,
        tile=(block, block),
        depth=depth,
        grid=(found.length, steps),
        place=cell,
        span=span,
        onto=jnp.zeros(shape, x.dtype),
        **options,
    )


def _along(
    a: jax.Array, w: jax.Array, live: jax.Array, is_transposed: bool, options: Any
) -> jax.Array:
    """a W or a W^T: the live blocks of one column of the result after those of the other.

    Args:
      a: [M, contracted].
      w: [contracted, columns], or transposed.
      live: bool [columns / b, contracted / b].
      is_transposed: as w is stored.
      options: of `pallas_call`.
    """
    height, width = a.shape[0], a.shape[1] // live.shape[1]
    across = live.shape[1]
    rows = row_tile(height, ROWS)
    a = pad_rows(a, rows)
    # A column without a live block gets one turn, in which it is written and nothing multiplied.
    counts = jnp.sum(live, axis=1, dtype=jnp.int32)
    lonely = (counts == 0)[:, None] & (jnp.arange(across) == 0)[None, :]
    found = walk(live | lonely)

    def of_w(lists: Any, i: Any, turn: Any) -> tuple[Any, Any]:
        column, contracted = lists[0][turn] // across, lists[0][turn] % across
        return (column, contracted) if is_transposed else (contracted, column)

    def span(lists: Any, i: Any, turn: Any) -> tuple[Any, Any, Any]:
        cells, counts, length = lists[0], lists[1], lists[2][0]
        column = cells[turn] // across
        before = cells[jnp.maximum(turn - 1, 0)] // across
        after = cells[jnp.minimum(turn + 1, length - 1)] // across
        is_first = (turn == 0) | (before != column)
        is_last = (turn == length - 1) | (after != column)
        return is_first, counts[column] > 0, is_last

    columns = live.shape[0] * width
    product = tile_product(
        Factor(a, lambda lists, i, turn: (i, lists[0][turn] % across)),
        Factor(w, of_w, is_transposed),
        [found.cells, counts, found.length.reshape(1)],
        shape=(a.shape[0], columns),
        tile=(rows, width),
        depth=width,
        grid=(a.shape[0] // rows, found.length),
        place=lambda lists, i, turn: (i, lists[0][turn] // across),
        span=span,
        **options,
    )
    return product[:height]
