"""Which tiles of G and X a step multiplies, the same on every device: step s takes the s-th tile of the batch."""

from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.kernels.tile_product import Factor


def factors(g: jax.Array, x: jax.Array, block: int, axis: int) -> tuple[Factor, Factor]:
    """The two factors of a product whose only list is that of the blocks; a tile of G is as wide as a block.

    Args:
      g: [B, O].
      x: [B, I].
      block: columns of a block.
      axis: of the outputs in the result.
    """
    last = g.shape[1] // block - 1

    def of_g(lists: Any, i: Any, j: Any, step: Any) -> tuple[Any, Any]:
        # As in the reference, a number out of range is the nearest that there is.
        return step, jnp.clip(lists[0][i if axis == 0 else j], 0, last)

    def of_x(lists: Any, i: Any, j: Any, step: Any) -> tuple[Any, Any]:
        return step, j if axis == 0 else i

    if axis == 0:
        return Factor(g, of_g, is_transposed=True), Factor(x, of_x)
    return Factor(x, of_x, is_transposed=True), Factor(g, of_g)
