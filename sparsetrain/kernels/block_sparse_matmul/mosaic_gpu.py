"""On a GPU from Hopper on: a thread block a tile of the result, along the live blocks that its list names."""

from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.kernels.block_sparse_matmul.live import Lists, lists
from sparsetrain.kernels.tile_product import Factor, pad_rows
from sparsetrain.kernels.tile_product.mosaic_gpu import DEPTH, row_tile, tile_product


def forward(x: jax.Array, w: jax.Array, live: jax.Array, **options: Any) -> jax.Array:
    """As the reference.

    Args:
      x: [M, I] bfloat16 or float16.
      w: [I, O] of that dtype.
      live: bool [I / b, O / b], b 64 or 128.
      **options: of `plgpu.kernel`, such as `interpret`.
    """
    return _along(x, w, lists(live.T), w.shape[0] // live.shape[0], False, options)


def input_gradient(dy: jax.Array, w: jax.Array, live: jax.Array, **options: Any) -> jax.Array:
    """As the reference.

    Args:
      dy: [M, O] bfloat16 or float16.
      w: [I, O] of that dtype.
      live: bool [I / b, O / b], b 64 or 128.
      **options: of `plgpu.kernel`, such as `interpret`.
    """
    return _along(dy, w, lists(live), w.shape[0] // live.shape[0], True, options)


def weight_gradient(x: jax.Array, dy: jax.Array, live: jax.Array, **options: Any) -> jax.Array:
    """As the reference; a thread block of a dead block only writes its zeros.

    Args:
      x: [M, I] bfloat16 or float16.
      dy: [M, O] of that dtype.
      live: bool [I / b, O / b], b 64 or 128.
      **options: of `plgpu.kernel`, such as `interpret`.
    """
    block = x.shape[1] // live.shape[0]
    x, dy = pad_rows(x, DEPTH), pad_rows(dy, DEPTH)  # rows of zeros add nothing
    steps = x.shape[0] // DEPTH
    return tile_product(
        Factor(x, lambda lists, i, j, step: (step, i), is_transposed=True),
        Factor(dy, lambda lists, i, j, step: (step, j)),
        [live.astype(jnp.int32)],
        grid=(live.shape[0], live.shape[1]),
        tile=(block, block),
        steps=lambda lists, i, j: lists[0][i, j] * steps,
        **options,
    )


def _along(
    a: jax.Array, w: jax.Array, live: Lists, block: int, is_transposed: bool, options: Any
) -> jax.Array:
    """a W or a W^T: for the tile j of the result along the live blocks of its row of the lists."""
    height, columns, per_block = a.shape[0], live.counts.shape[0], block // DEPTH
    rows = row_tile(height, columns)
    a = pad_rows(a, rows)

    def contracted(lists: Any, j: Any, step: Any) -> Any:
        return lists[0][j, step // per_block] * per_block + step % per_block

    def of_a(lists: Any, i: Any, j: Any, step: Any) -> tuple[Any, Any]:
        return i, contracted(lists, j, step)

    def of_w(lists: Any, i: Any, j: Any, step: Any) -> tuple[Any, Any]:
        found = contracted(lists, j, step)
        return (j, found) if is_transposed else (found, j)

    product = tile_product(
        Factor(a, of_a),
        Factor(w, of_w, is_transposed),
        live,
        grid=(a.shape[0] // rows, columns),
        tile=(rows, block),
        steps=lambda lists, i, j: lists[1][j] * per_block,
        **options,
    )
    return product[:height]
