"""The convolution of a layer with a sparse backward: a drop-in for `lax.conv_general_dilated`.

A rule that selects per example sees one row of H * W * C entries for every image; a rule that
shares columns sees the channels, with every position of every image as a row. In the second case
the backward convolutions run over the kept channels only.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sparsetrain.backward.dot_general import select_flat
from sparsetrain.backward.rule import BackwardRule


class Convolution(NamedTuple):
    """What of a convolution is known when it is traced; hashable, as custom_vjp wants it."""

    rule: BackwardRule
    rows: int | None
    numbers: lax.ConvDimensionNumbers
    options: tuple[tuple[str, Any], ...]
    groups: int

    def dense(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            dimension_numbers=self.numbers,
            feature_group_count=self.groups,
            **dict(self.options),
        )


def row_shape(
    rule: BackwardRule, output_shape: Sequence[int], feature_axis: int
) -> tuple[int, ...]:
    """Shape of one row, as a rule sees a convolution's output: the channels, or all of an example."""
    if rule.shares_columns:
        return (output_shape[feature_axis],)
    spatial = [n for axis, n in enumerate(output_shape) if axis not in (0, feature_axis)]
    return (*spatial, output_shape[feature_axis])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(
    convolution: Convolution, x: jax.Array, kernel: jax.Array, memory: jax.Array | None
) -> jax.Array:
    del memory
    return convolution.dense(x, kernel)


def _forward(
    convolution: Convolution, x: jax.Array, kernel: jax.Array, memory: jax.Array | None
) -> tuple[jax.Array, Any]:
    return convolution.dense(x, kernel), (x, kernel, memory)


def _backward(convolution: Convolution, residuals: Any, cotangent: jax.Array) -> tuple[Any, ...]:
    x, kernel, memory = residuals
    rule, numbers = convolution.rule, convolution.numbers
    batch_axis, feature_axis, *spatial_axes = numbers.out_spec
    order = (batch_axis, *spatial_axes, feature_axis)
    inverse = sorted(range(cotangent.ndim), key=order.__getitem__)
    ordered = cotangent.transpose(order)  # [B, *spatial, C], whatever the layout
    shape = row_shape(rule, cotangent.shape, feature_axis)
    rows = convolution.rows
    if rows is not None and rule.shares_columns:
        rows *= math.prod(ordered.shape[1:-1])  # every position is a row
    selected = select_flat(rule, ordered, memory, shape, rows)

    kernel_feature_axis = numbers.rhs_spec[0]
    if selected.is_compact and rule.shares_columns and convolution.groups == 1:
        columns = selected.kept
        chosen = selected.values.reshape(*ordered.shape[:-1], -1).transpose(inverse)
        kept_kernel = jnp.take(kernel, columns, axis=kernel_feature_axis, mode="clip")
        dx, dkept = _transposes(convolution, x, kept_kernel, chosen)
        place = (slice(None),) * kernel_feature_axis + (columns,)
        zeros = jnp.zeros(kernel.shape, kernel.dtype)
        return dx, zeros.at[place].set(dkept, unique_indices=True), selected.increment

    chosen = selected.to_dense(math.prod(shape)).reshape(ordered.shape).transpose(inverse)
    return *_transposes(convolution, x, kernel, chosen), selected.increment


def _transposes(
    convolution: Convolution, x: jax.Array, kernel: jax.Array, chosen: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """dx and dkernel of a dense convolution for the chosen output gradient."""
    (dx,) = jax.linear_transpose(lambda x: convolution.dense(x, kernel), x)(chosen)
    (dkernel,) = jax.linear_transpose(lambda w: convolution.dense(x, w), kernel)(chosen)
    return dx, dkernel


_convolve.defvjp(_forward, _backward)


def sparse_conv_general(
    x: jax.Array,
    kernel: jax.Array,
    memory: jax.Array | None,
    rule: BackwardRule,
    *,
    window_strides: Sequence[int],
    padding: Any,
    dimension_numbers: Any = None,
    rows: int | None = None,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` whose backward pass lets `rule` select from the output's gradient.

        y = x * W;    g = select(dy, M);    dx, dW = the dense convolution's gradients for g

    Args:
      x: images, any layout that `dimension_numbers` names.
      kernel: filters.
      memory: what `rule.init(row shape)` returned: (H, W, C) for a rule that selects per example,
        (C,) for one that shares columns; its cotangent is its increment.
      rule: a backward rule.
      window_strides: as for `lax.conv_general_dilated`.
      padding: as for `lax.conv_general_dilated`.
      dimension_numbers: as for `lax.conv_general_dilated`.
      rows: examples that reach the layer per optimizer step (positions are counted here); None
        means those of this call.
      feature_group_count: as for `lax.conv_general_dilated`.
      **options: `lhs_dilation`, `rhs_dilation`, `precision`, `preferred_element_type`, ….

    Returns:
      y, exactly as `lax.conv_general_dilated` gives it.

    Differs from the paper:
      1. The paper gives no granularity for convolutions; both above are our reading.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from sparsetrain import backward
      >>> x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2))
      >>> def loss(kernel):
      ...     y = sparse_conv_general(x, kernel, None, backward.unified_top_k(density=0.5), window_strides=(1, 1),
      ...                             padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
      ...     return (y @ jnp.array([1.0, 3.0])).sum()
      >>> jax.grad(loss)(kernel)[1, 1, 0].tolist()
      [0.0, 48.0]
    """
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    given = {"window_strides": window_strides, "padding": padding, **options}
    frozen = tuple(sorted((name, _frozen(value)) for name, value in given.items()))
    convolution = Convolution(rule, rows, numbers, frozen, feature_group_count)
    return _convolve(convolution, x, kernel, memory)


def _frozen(value: Any) -> Any:
    """Lists become tuples, so that the options hash."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
