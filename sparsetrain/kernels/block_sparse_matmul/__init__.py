"""K5: a product with a matrix of which only some blocks are there, and its two gradients.

y = x W,    dx = dy W^T,    dW = x^T dy on the live blocks
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.kernels import dispatch, tile_product
from sparsetrain.kernels.block_sparse_matmul.live import spread

__all__ = ["block_sparse_matmul", "spread"]


def block_sparse_matmul(
    x: jax.Array, w: jax.Array, live: jax.Array, *, implementation: str | None = None
) -> jax.Array:
    """The product with the live blocks of a matrix; the others are neither read nor multiplied.

        y = x (W * mask),    dx = dy (W * mask)^T,    dW = (x^T dy) * mask

    Args:
      x: [..., I] float.
      w: [I, O] of the same dtype, stored whole.
      live: bool [I / b, O / b], which blocks are there; may change from step to step.
      implementation: "xla", "mosaic_gpu", "tpu"; None for the kernel where it can run, see
        `dispatch.choose`.

    Returns:
      [..., O] of x's dtype, summed in float32 at least. Differentiable in x and w; dead blocks of w
      have no gradient, whatever they hold.

    Raises:
      TypeError: dtypes that are not floating or differ, or `live` that is not bool.
      ValueError: shapes that do not fit one another, or an implementation that cannot run here.

    Example:
      >>> x, w = jnp.ones((1, 4)), jnp.ones((4, 2))
      >>> live = jnp.array([[True], [False]])                                # 2 x 2 blocks
      >>> block_sparse_matmul(x, w, live).tolist()
      [[2.0, 2.0]]
      >>> jax.grad(lambda w: block_sparse_matmul(x, w, live).sum())(w)[:, 0].tolist()
      [1.0, 1.0, 0.0, 0.0]
    """
    block = _check(x, w, live)
    unfit = _unfit(x, block)
    chosen = dispatch.choose(implementation, (dispatch.MOSAIC_GPU, dispatch.TPU), unfit)
    rows = x.reshape(-1, x.shape[-1])
    return _product(chosen, rows, w, live).reshape(*x.shape[:-1], w.shape[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(chosen: str, x: jax.Array, w: jax.Array, live: jax.Array) -> jax.Array:
    product: jax.Array = dispatch.module(__name__, chosen).forward(x, w, live)
    return product


def _forward(chosen: str, x: jax.Array, w: jax.Array, live: jax.Array) -> tuple[jax.Array, Any]:
    return _product(chosen, x, w, live), (x, w, live)


def _backward(chosen: str, operands: Any, dy: jax.Array) -> Any:
    x, w, live = operands
    run = dispatch.module(__name__, chosen)
    return run.input_gradient(dy, w, live), run.weight_gradient(x, dy, live), None


_product.defvjp(_forward, _backward)


def _check(x: jax.Array, w: jax.Array, live: jax.Array) -> tuple[int, int]:
    """Size of a block."""
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(f"x {x.shape} and w {w.shape}: give [..., I] and [I, O]")
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype != w.dtype:
        raise TypeError(f"x of {x.dtype}, w of {w.dtype}: give both in one float dtype")
    if live.dtype != jnp.bool_:
        raise TypeError(f"live of {live.dtype}: give bool, one flag a block")
    if (
        live.ndim != 2
        or 0 in live.shape
        or w.shape[0] % live.shape[0]
        or w.shape[1] % live.shape[1]
    ):
        raise ValueError(f"live {live.shape}: must divide w {w.shape} into whole blocks")
    return w.shape[0] // live.shape[0], w.shape[1] // live.shape[1]


def _unfit(x: jax.Array, block: tuple[int, int]) -> str | None:
    """Why no kernel takes these operands; None where one does."""
    if block[0] != block[1]:
        return f"blocks of {block[0]} x {block[1]} are not square"
    if not x.size:
        return "x is empty"
    return tile_product.unfit(x.dtype, block[0])
