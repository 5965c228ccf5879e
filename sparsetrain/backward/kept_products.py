"""The two products over the columns that a selection kept, each by the way that suits what is known of them.

blocks of the cotangent     kernels that read them where they are         where such a kernel runs
a few entries a row         sums over those entries                       CPU
columns                     gathered, then dense products                 everywhere else
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain import kernels
from sparsetrain.backward import pairs
from sparsetrain.backward.row_sparse.gradient import RowSparse
from sparsetrain.backward.rule import Selection
from sparsetrain.kernels import column_blocks, dispatch, tile_product


def gathered_unless_kernels_run(
    selected: Selection, x: jax.Array, kernel: jax.Array, precision: Any
) -> Selection:
    """Forgets the blocks of a selection unless the kernels beat XLA here: what follows need not ask.

    Args:
      selected: compact.
      x: [R, I].
      kernel: [I, O].
      precision: as for `lax.dot_general`.

    Returns:
      The selection, with blocks only if both products over them have a kernel: on a device that has
      one, in one dtype that matrix units multiply exactly, at a precision that is not asked for.

    Example:
      >>> from sparsetrain.backward import unified_top_k
      >>> selected = unified_top_k(0.5, block=64).select(jnp.ones((2, 128)), None)
      >>> selected.blocks is None
      False
      >>> gathered_unless_kernels_run(selected, jnp.ones((2, 8)), jnp.ones((8, 128)), None).blocks is None
      True
    """
    if selected.blocks is None:
        return selected
    cotangent = selected.blocks.cotangent
    if tile_product.is_plain(precision) and cotangent.dtype == x.dtype == kernel.dtype:
        unfit = column_blocks.unfit(cotangent, x.shape[1], _size(selected))
        if dispatch.choose(None, (dispatch.MOSAIC_GPU, dispatch.TPU), unfit) != dispatch.XLA:
            return selected
    return selected._replace(blocks=None)


def input_gradient(
    selected: Selection, kernel: jax.Array, tap: RowSparse | None, precision: Any
) -> jax.Array:
    """dx = g W^T over the kept columns.

    Args:
      selected: compact.
      kernel: [I, O].
      tap: of the kernel, or None; its axis is the one of the outputs as the kernel is stored.
      precision: as for `lax.dot_general`.

    Returns:
      [R, I].
    """
    is_stored_by_rows = tap is not None and tap.axis == 0
    stored = kernel.T if is_stored_by_rows else kernel
    if selected.blocks is not None:
        cotangent, numbers = selected.blocks
        return kernels.block_column_matmul(
            cotangent,
            stored,
            numbers,
            block=_size(selected),
            axis=0 if is_stored_by_rows else 1,
        )
    multiply = functools.partial(jnp.matmul, precision=precision)
    columns = selected.kept if tap is None else tap.as_read_back(selected.kept)
    if not is_stored_by_rows:
        return multiply(selected.values, stored.at[:, columns].get(mode="clip").T)
    kept_kernel = stored.at[columns].get(mode="clip")
    if selected.pairs is None:
        # The barrier gives this product values that lie row by row, the other one column by
        # column; a shared copy would make one of them a slow product of two transposes.
        return multiply(lax.optimization_barrier(selected.values), kept_kernel)
    return lax.platform_dependent(
        selected.pairs,
        selected.values,
        kept_kernel,
        cpu=lambda entries, _, kernel: pairs.input_gradient(entries, kernel),
        default=lambda _, values, kernel: multiply(values, kernel),
    )


def kernel_rows(
    selected: Selection, x: jax.Array, tap: RowSparse | None, precision: Any
) -> jax.Array:
    """dW = x^T g, of the kept columns only.

    Args:
      selected: compact.
      x: [R, I].
      tap: of the kernel, or None.
      precision: as for `lax.dot_general`.

    Returns:
      [K, I] where the tap's axis is 0, else [I, K].
    """
    axis = 1 if tap is None else tap.axis
    if selected.blocks is not None:
        cotangent, numbers = selected.blocks
        return kernels.block_column_outer(cotangent, x, numbers, block=_size(selected), axis=axis)
    multiply = functools.partial(jnp.matmul, precision=precision)
    if axis == 1:
        return multiply(x.T, selected.values)
    if selected.pairs is None:
        return multiply(selected.values.T, x)
    return lax.platform_dependent(
        selected.pairs,
        selected.values,
        x,
        cpu=lambda entries, values, x: pairs.kernel_gradient(entries, x, values.shape[1]),
        default=lambda _, values, x: multiply(values.T, x),
    )


def among_zeros(selected: Selection, columns: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """The kernel's gradient with zeros where nothing was kept.

    Args:
      selected: compact.
      columns: [I, K], of `kernel_rows`.
      shape: (I, O).

    Returns:
      [I, O] of the dtype of `columns`.
    """
    zeros = jnp.zeros(shape, columns.dtype)
    if selected.blocks is None:
        return zeros.at[:, selected.kept].set(columns, mode="drop", unique_indices=True)
    # A block is one window, where its columns would each be one.
    size = _size(selected)
    grouped = zeros.reshape(shape[0], -1, size)
    placed = grouped.at[:, selected.blocks.numbers].set(
        columns.reshape(shape[0], -1, size), mode="promise_in_bounds", unique_indices=True
    )
    return placed.reshape(shape)


def _size(selected: Selection) -> int:
    """Columns of a block."""
    assert selected.blocks is not None
    return selected.kept.shape[0] // selected.blocks.numbers.shape[0]
