"""Which tiles of G and W a step multiplies, the same on every device: step s is in block s // (block / depth)."""

from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.kernels.tile_product import Factor


def factors(g: jax.Array, w: jax.Array, block: int, axis: int, depth: int) -> tuple[Factor, Factor]:
    """The two factors of a product whose only list is that of the blocks.

    Args:
      g: [B, O].
      w: [O, I] (axis 0) or [I, O] (axis 1).
      block: columns of a block, a multiple of `depth`.
      axis: of the outputs in w.
      depth: outputs of a step.
    """
    per_block, last = block // depth, g.shape[1] // block - 1

    def outputs(lists: Any, step: Any) -> Any:
        # As in the reference, a number out of range is the nearest that there is.
        chosen = jnp.clip(lists[0][step // per_block], 0, last)
        return chosen * per_block + step % per_block

    def of_g(lists: Any, i: Any, j: Any, step: Any) -> tuple[Any, Any]:
        return i, outputs(lists, step)

    def of_w(lists: Any, i: Any, j: Any, step: Any) -> tuple[Any, Any]:
        return (outputs(lists, step), j) if axis == 0 else (j, outputs(lists, step))

    return Factor(g, of_g), Factor(w, of_w, is_transposed=axis == 1)
