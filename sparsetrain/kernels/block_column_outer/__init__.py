"""K4: gradient of a layer's kernel for the blocks of outputs that the whole batch keeps, rows of those only.

dW[S, :] = G[:, S]^T X,    S = the columns of the chosen blocks
"""

import jax

from sparsetrain.kernels import column_blocks, dispatch

_product = column_blocks.differentiable(
    lambda chosen: dispatch.module(__name__, chosen).block_column_outer
)


def block_column_outer(
    g: jax.Array,
    x: jax.Array,
    blocks: jax.Array,
    *,
    block: int = 128,
    axis: int = 0,
    implementation: str | None = None,
) -> jax.Array:
    """The kernel's gradient in compact rows, without a dense array of zeros around them.

        dW[S, :] = G[:, S]^T X

    Args:
      g: [B, O] float, the cotangent of the layer's output.
      x: [B, I] of the same dtype, the layer's inputs.
      blocks: int32 [nb], nb >= 1, distinct numbers of blocks, each below O / block.
      block: neighbouring outputs of a block; 64 or 128 for the kernels.
      axis: 0 for rows [nb * block, I], 1 for columns [I, nb * block].
      implementation: "xla", "mosaic_gpu", "tpu"; None for the kernel where it can run, see
        `dispatch.choose`.

    Returns:
      [nb * block, I] or [I, nb * block] of g's dtype, in the order of `blocks`, summed in float32 at
      least.

    Raises:
      TypeError: not floating, or dtypes that differ.
      ValueError: shapes that do not fit one another, or an implementation that cannot run here.

    Example:
      >>> import jax.numpy as jnp
      >>> g, x = jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.array([[10.0]])
      >>> block_column_outer(g, x, jnp.array([1]), block=2).tolist()
      [[30.0], [40.0]]
    """
    column_blocks.check(g, x, blocks, block)
    if axis not in (0, 1):
        raise ValueError(f"axis={axis}: give 0 for rows or 1 for columns")
    if x.shape[0] != g.shape[0]:
        raise ValueError(f"x {x.shape}: must have g's {g.shape[0]} rows")
    unfit = column_blocks.unfit(g, x.shape[1], block)
    chosen = dispatch.choose(implementation, (dispatch.MOSAIC_GPU, dispatch.TPU), unfit)
    return _product(chosen, block, axis, g, x, blocks)
