"""The definition, and what runs where no kernel does: dense products with a masked matrix."""

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.kernels.block_sparse_matmul.live import spread


def forward(x: jax.Array, w: jax.Array, live: jax.Array) -> jax.Array:
    """y = x (w * mask).

    Args:
      x: [M, I].
      w: [I, O].
      live: bool [I / b, O / b].
    """
    return _product(x, _masked(w, live), ((1,), (0,)), x.dtype)


def input_gradient(dy: jax.Array, w: jax.Array, live: jax.Array) -> jax.Array:
    """dx = dy (w * mask)^T, [M, I].

    Args:
      dy: [M, O].
      w: [I, O].
      live: bool [I / b, O / b].
    """
    return _product(dy, _masked(w, live), ((1,), (1,)), dy.dtype)


def weight_gradient(x: jax.Array, dy: jax.Array, live: jax.Array) -> jax.Array:
    """dw = (x^T dy) * mask, [I, O].

    Args:
      x: [M, I].
      dy: [M, O].
      live: bool [I / b, O / b].
    """
    return _masked(_product(x, dy, ((0,), (0,)), x.dtype), live)


def _masked(w: jax.Array, live: jax.Array) -> jax.Array:
    return jnp.where(spread(live, w.shape), w, jnp.zeros_like(w))


def _product(
    a: jax.Array, b: jax.Array, contracted: tuple[tuple[int], tuple[int]], dtype: jnp.dtype
) -> jax.Array:
    wide = jnp.promote_types(dtype, jnp.float32)
    return lax.dot_general(a, b, (contracted, ((), ())), preferred_element_type=wide).astype(dtype)
