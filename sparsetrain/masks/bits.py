"""Masks of eight weights a byte, for what is read at every step and nearly never true."""

import jax
import jax.numpy as jnp


def packed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a packed mask.

    Args:
      shape: of the mask, at least one axis.

    Returns:
      The same but for the last axis but one (a vector's only one), which is divided by 8, rounded up:
      neighbours along the last axis stay neighbours, and no axis is merged with another that may be
      sharded otherwise.

    Example:
      >>> packed_shape((3, 3, 20, 50)), packed_shape((5,))
      ((3, 3, 3, 50), (1,))
    """
    axis = max(len(shape) - 2, 0)
    return (*shape[:axis], -(-shape[axis] // 8), *shape[axis + 1 :])


def pack(mask: jax.Array) -> jax.Array:
    """Puts eight into a byte.

    Args:
      mask: bool, at least one axis.

    Returns:
      uint8 of `packed_shape`.

    Example:
      >>> pack(jnp.array([True, False, True])).tolist()
      [5]
    """
    shape, axis = mask.shape, max(mask.ndim - 2, 0)
    whole = packed_shape(shape)
    missing = [(0, 8 * whole[axis] - shape[axis] if i == axis else 0) for i in range(mask.ndim)]
    of_bytes = (*whole[: axis + 1], 8, *whole[axis + 1 :])
    bits = jnp.pad(mask, missing).reshape(of_bytes).astype(jnp.uint8)
    return jnp.sum(bits << _places(bits.ndim, axis + 1), axis=axis + 1, dtype=jnp.uint8)


def unpack(packed: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The mask again.

    Args:
      packed: uint8 of `packed_shape(shape)`.
      shape: of the mask.

    Returns:
      bool of that shape.

    Example:
      >>> unpack(jnp.array([5], jnp.uint8), (3,)).tolist()
      [True, False, True]
    """
    axis = max(len(shape) - 2, 0)
    bytes_of_bits = jnp.expand_dims(packed, axis + 1)
    bits = (bytes_of_bits >> _places(bytes_of_bits.ndim, axis + 1)) & 1
    whole = bits.reshape((*shape[:axis], 8 * packed.shape[axis], *shape[axis + 1 :]))
    return (whole != 0)[tuple(slice(size) for size in shape)]


def _places(ndim: int, axis: int) -> jax.Array:
    return jnp.arange(8, dtype=jnp.uint8).reshape([8 if i == axis else 1 for i in range(ndim)])
