"""K3: gradient of a layer's inputs from the blocks of outputs that the whole batch keeps.

dx = G[:, S] W[S, :],    S = the columns of the chosen blocks
"""

import jax

from sparsetrain.kernels import column_blocks, dispatch

_product = column_blocks.differentiable(
    lambda chosen: dispatch.module(__name__, chosen).block_column_matmul
)


def block_column_matmul(
    g: jax.Array,
    w: jax.Array,
    blocks: jax.Array,
    *,
    block: int = 128,
    axis: int = 0,
    implementation: str | None = None,
) -> jax.Array:
    """The product over chosen blocks of outputs; what is not chosen is not read.

        dx = G[:, S] W[S, :]

    Args:
      g: [B, O] float, the cotangent of the layer's output.
      w: [O, I] of the same dtype, or [I, O] with axis=1.
      blocks: int32 [nb], nb >= 1, distinct numbers of blocks, each below O / block.
      block: neighbouring outputs of a block; 64 or 128 for the kernels.
      axis: 0 or 1, the axis of the outputs in w.
      implementation: "xla", "mosaic_gpu", "tpu"; None for the kernel where it can run, see
        `dispatch.choose`.

    Returns:
      [B, I] of g's dtype, summed in float32 at least.

    Raises:
      TypeError: not floating, or dtypes that differ.
      ValueError: shapes that do not fit one another, or an implementation that cannot run here.

    Example:
      >>> import jax.numpy as jnp
      >>> g, w = jnp.array([[1.0, 2.0, 3.0, 4.0]]), jnp.eye(4)
      >>> block_column_matmul(g, w, jnp.array([1]), block=2).tolist()
      [[0.0, 0.0, 3.0, 4.0]]
    """
    column_blocks.check(g, w, blocks, block)
    if axis not in (0, 1) or w.shape[axis] != g.shape[1]:
        raise ValueError(f"w {w.shape}, axis={axis}: that axis must be g's {g.shape[1]} columns")
    unfit = column_blocks.unfit(g, w.shape[1 - axis], block)
    chosen = dispatch.choose(implementation, (dispatch.MOSAIC_GPU, dispatch.TPU), unfit)
    return _product(chosen, block, axis, g, w, blocks)
