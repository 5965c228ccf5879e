"""What a layer calls in the place of its dense product when its live blocks are known."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import kernels
from sparsetrain.kernels.block_sparse_matmul import spread
from sparsetrain.kernels.tile_product import is_plain


def block_product(
    live: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    dimension_numbers: Any,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """`lax.dot_general` of a kernel whose dead blocks are not there.

        y = x (W * mask),    dx = dy (W * mask)^T,    dW = (x^T dy) * mask

    A layer's own product, x [..., I] and W [I, O] with no options, is
    `kernels.block_sparse_matmul`; with a precision, a result type or a sharding asked for it is the
    same by a dense product with the masked kernel.

    Args:
      live: bool [I / b, O / b].
      x: [..., I].
      kernel: [I, O].
      dimension_numbers: as for `lax.dot_general`.
      precision: likewise.
      preferred_element_type: likewise.
      out_sharding: likewise.

    Returns:
      [..., O]; dead blocks have no gradient.

    Example:
      >>> live = jnp.array([[True], [False]])
      >>> block_product(live, jnp.ones((1, 4)), jnp.ones((4, 2)), (((1,), (0,)), ((), ()))).tolist()
      [[2.0, 2.0]]
    """
    contracted, batch = (tuple(map(tuple, axes)) for axes in dimension_numbers)
    is_layers = kernel.ndim == 2 and contracted == ((x.ndim - 1,), (0,)) and batch == ((), ())
    is_asked = out_sharding is not None or preferred_element_type not in (None, x.dtype)
    if is_layers and not is_asked and is_plain(precision) and x.dtype == kernel.dtype:
        return kernels.block_sparse_matmul(x, kernel, live)
    masked = jnp.where(spread(live, kernel.shape), kernel, jnp.zeros_like(kernel))
    options = {} if out_sharding is None else {"out_sharding": out_sharding}
    return lax.dot_general(
        x,
        masked,
        dimension_numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
        **options,
    )
