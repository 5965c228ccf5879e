"""Products whose factors are taken tile by tile from places that a list in memory names.

out[i, j] = sum over steps s of A[place(s)] B[place(s)],    all of them tiles

The products over chosen blocks (K3, K4) and with a block-sparse matrix (K5) are this with different places.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsetrain import varying
from sparsetrain.kernels import dispatch

BLOCKS = (64, 128)  # of the kernels; XLA takes any
NARROW = (jnp.bfloat16, jnp.float16)  # what matrix units multiply exactly and add in float32
BLACKWELL = 10.0  # compute capability
# (lists, *point of the grid) -> row and column of a tile, in tiles
Place = Callable[..., tuple[Any, Any]]


class Factor(NamedTuple):
    """A matrix of which every step takes a tile.

    Attributes:
      array: two axes, multiples of the tile.
      place: (lists, *point) -> row and column, in tiles of the array as it is stored, of what is taken there.
      is_transposed: the array is stored the other way round than the product wants it.
    """

    array: jax.Array
    place: Place
    is_transposed: bool = False


def alike(
    operands: tuple[jax.Array, ...], shape: tuple[int, int], dtype: jnp.dtype
) -> tuple[tuple[jax.Array, ...], jax.ShapeDtypeStruct]:
    """Operands that `shard_map` says differ between devices alike, and the type of what a kernel makes of them.

    Args:
      operands: of the kernel.
      shape: of its result.
      dtype: of its result.

    Returns:
      The operands, and the type of the result.

    Example:
      >>> _, result = alike((jnp.ones((2, 2)),), (2, 4), jnp.dtype("float32"))
      >>> result.shape
      (2, 4)
    """
    operands = varying.over(varying.axes_of(operands), operands)
    kind = jax.typeof(operands[0]).manual_axis_type
    return operands, jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=kind)


def pad_rows(matrix: jax.Array, multiple: int) -> jax.Array:
    """Rows of zeros below, up to a multiple.

    Args:
      matrix: two axes.
      multiple: of the rows.

    Example:
      >>> pad_rows(jnp.ones((3, 1)), 2).tolist()
      [[1.0], [1.0], [1.0], [0.0]]
    """
    missing = -matrix.shape[0] % multiple
    return jnp.pad(matrix, ((0, missing), (0, 0))) if missing else matrix


def is_plain(precision: Any) -> bool:
    """Whether a product's precision is not asked for: kernels have no other than that of their operands.

    Args:
      precision: as for `lax.dot_general`, one or a pair.

    Example:
      >>> is_plain(None), is_plain((None, "default")), is_plain("highest")
      (True, True, False)
    """
    asked = precision if isinstance(precision, tuple) else (precision,)
    return all(each in (None, "default", jax.lax.Precision.DEFAULT) for each in asked)


def unfit(dtype: jnp.dtype, block: int) -> str | None:
    """Why no kernel on the device in question takes such operands; None where one does.

    Args:
      dtype: of the factors.
      block: neighbours that are kept or dropped together.

    Example:
      >>> unfit(jnp.dtype(jnp.float32), 128)
      'float32 is not what the matrix units multiply exactly (bfloat16, float16)'
    """
    if dtype not in NARROW:
        return f"{dtype} is not what the matrix units multiply exactly (bfloat16, float16)"
    if block not in BLOCKS:
        return f"block={block} is not one of {', '.join(map(str, BLOCKS))}"
    where = dispatch.target()
    if where.platform == "gpu" and (where.capability or 0) >= BLACKWELL:
        return f"{where.kind} has no wgmma, the products of Hopper alone"
    if where.platform == "tpu":
        if dtype != jnp.bfloat16:
            return f"a TPU has no {dtype}, give bfloat16"
        if block != BLOCKS[-1]:
            return f"block={block} is less than the {BLOCKS[-1]} lanes of a TPU"
    return None
