"""Blocks of neighbouring columns: what the two products over chosen blocks, K3 and K4, have in common."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sparsetrain.kernels import dispatch, tile_product

TILE = 128  # of the inputs in the kernels


def gather(matrix: jax.Array, blocks: jax.Array, block: int, axis: int) -> jax.Array:
    """The rows (axis 0) or columns (axis 1) of the chosen blocks, one after the other.

    Args:
      matrix: two axes, its length along `axis` a multiple of `block`.
      blocks: int32 [nb].
      block: neighbours of a block.
      axis: 0 or 1.

    Example:
      >>> gather(jnp.arange(8.0).reshape(1, 8), jnp.array([3, 0]), 2, 1).tolist()
      [[6.0, 7.0, 0.0, 1.0]]
    """
    before, after = matrix.shape[:axis], matrix.shape[axis + 1 :]
    grouped = matrix.reshape(*before, -1, block, *after)
    chosen = jnp.take(grouped, blocks, axis=axis, mode="clip", unique_indices=True)
    return chosen.reshape(*before, -1, *after)


def check(g: jax.Array, other: jax.Array, blocks: jax.Array, block: int) -> None:
    """Refuses operands of which no product can be made.

    Args:
      g: [B, O].
      other: two axes.
      blocks: [nb].
      block: neighbours of a block.

    Raises:
      TypeError: dtypes.
      ValueError: shapes.
    """
    if g.ndim != 2 or other.ndim != 2:
        raise ValueError(f"shapes {g.shape} and {other.shape}: give two matrices")
    if not jnp.issubdtype(g.dtype, jnp.floating) or g.dtype != other.dtype:
        raise TypeError(f"dtypes {g.dtype} and {other.dtype}: give two matrices of one float dtype")
    if not jnp.issubdtype(blocks.dtype, jnp.integer):
        raise TypeError(f"blocks of {blocks.dtype}: give numbers of blocks, int32")
    if block < 1 or g.shape[1] % block:
        raise ValueError(f"block={block}: must divide the {g.shape[1]} columns of g")
    if blocks.ndim != 1 or not 1 <= blocks.shape[0] <= g.shape[1] // block:
        raise ValueError(
            f"blocks of shape {blocks.shape}: give a list of 1 to {g.shape[1] // block} blocks"
        )


def unfit(g: jax.Array, inputs: int, block: int) -> str | None:
    """Why no kernel takes these operands; None where one does.

    Args:
      g: [B, O].
      inputs: I.
      block: neighbours of a block.

    Example:
      >>> unfit(jnp.zeros((8, 128), jnp.bfloat16), 100, 128)
      '100 inputs are no multiple of 128'
    """
    if g.shape[0] == 0:
        return "the batch is empty"
    if inputs % TILE or not inputs:
        return f"{inputs} inputs are no multiple of {TILE}"
    return tile_product.unfit(g.dtype, block)


def differentiable(run: Callable[[str], Callable[..., jax.Array]]) -> Callable[..., jax.Array]:
    """One of several implementations, each with the gradients of the plain one.

    Args:
      run: name -> function of (g, other operand, blocks, block, axis) that returns the product.

    Returns:
      (name, block, axis, g, other operand, blocks) -> product.

    Example:
      >>> product = differentiable(lambda name: lambda g, x, blocks, block, axis: g * x)
      >>> float(jax.grad(product, 3)("xla", 1, 0, 2.0, 3.0, jnp.array([0])))
      3.0
    """

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
    def product(
        chosen: str, block: int, axis: int, g: jax.Array, other: jax.Array, blocks: jax.Array
    ) -> jax.Array:
        return run(chosen)(g, other, blocks, block, axis)

    def forward(chosen: str, block: int, axis: int, *operands: jax.Array) -> tuple[jax.Array, Any]:
        return product(chosen, block, axis, *operands), operands

    def backward(chosen: str, block: int, axis: int, operands: Any, cotangent: jax.Array) -> Any:
        del chosen
        g, other, blocks = operands
        plain = run(dispatch.XLA)
        _, pull = jax.vjp(lambda g, other: plain(g, other, blocks, block, axis), g, other)
        return *pull(cotangent), None

    product.defvjp(forward, backward)
    return product
