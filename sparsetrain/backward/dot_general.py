"""The product of a layer with a sparse backward: a drop-in for `lax.dot_general`.

The forward product stays dense. Backward, the rule selects from the cotangent of the output; then
three forms:

    mask selection              dense products with a masked operand                          dx, dW dense
    compact selection           products over K columns, dW[:, columns] set into zeros        dx, dW dense
    compact selection and tap   products over K columns                                       dx dense, dW row-sparse

`kept_products.py` has the products over K columns, and says where kernels compute them. A *tap* is a
`RowSparse` of zeros that enters the product beside the kernel. What comes back in the place of its gradient
is the kernel's row-sparse gradient; the kernel's own cotangent is a constant zero, which the compiler
removes as long as nobody reads it.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax

from sparsetrain.backward.kept_products import (
    among_zeros,
    gathered_unless_kernels_run,
    input_gradient,
    kernel_rows,
)
from sparsetrain.backward.row_sparse.gradient import RowSparse
from sparsetrain.backward.rule import BackwardRule, Selection

DimensionNumbers = tuple[
    tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]
]


class Product(NamedTuple):
    """What of a product is known when it is traced; hashable, as custom_vjp wants it."""

    rule: BackwardRule
    rows: int | None
    contracting: tuple[tuple[int, ...], tuple[int, ...]]
    precision: Any
    preferred_element_type: Any
    out_sharding: Any

    def dense(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        options = {} if self.out_sharding is None else {"out_sharding": self.out_sharding}
        return lax.dot_general(
            x,
            kernel,
            (self.contracting, ((), ())),
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
            **options,
        )

    def forward(self, x: jax.Array, kernel: jax.Array, tap: RowSparse | None) -> jax.Array:
        """The same product; of a kernel stored as [O, I] in the order that a CPU is fastest with."""
        if tap is None or tap.axis == 1 or self.out_sharding is not None:
            return self.dense(x, kernel)
        return lax.platform_dependent(x, kernel, cpu=self._kernel_first, default=self.dense)

    def _kernel_first(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """W x^T and not x W^T: the long rows of W are read as they lie, and only x is packed anew.

        The barrier keeps XLA from folding the small transpose back into the product. Measured on
        one core: 0.8 of the time at 784->500, 0.6 to 0.8 at 5000->5000, both with 32 rows.
        """
        of_x, of_kernel = self.contracting
        order = self.precision[::-1] if isinstance(self.precision, tuple) else self.precision
        outputs_first = lax.dot_general(
            kernel,
            x,
            ((of_kernel, of_x), ((), ())),
            precision=order,
            preferred_element_type=self.preferred_element_type,
        )
        outputs = kernel.ndim - len(of_kernel)
        axes = (*range(outputs, outputs_first.ndim), *range(outputs))
        return lax.optimization_barrier(outputs_first).transpose(axes)


def select_flat(
    rule: BackwardRule,
    cotangent: jax.Array,
    memory: jax.Array | None,
    output_shape: tuple[int, ...],
    rows: int | None,
) -> Selection:
    """Lets a rule select from a cotangent [..., *output_shape] and gives the increment the memory's shape back."""
    outputs = math.prod(output_shape)
    flat = None
    if memory is not None:
        flat = memory
        if memory.shape == output_shape:
            flat = memory.reshape(outputs)
        elif memory.shape[1:] == output_shape:
            flat = memory.reshape(memory.shape[0], outputs)
    selected = rule.select(cotangent.reshape(-1, outputs), flat, rows=rows)
    if memory is None or selected.increment is None:
        return selected
    return selected._replace(increment=selected.increment.reshape(memory.shape))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(
    product: Product,
    x: jax.Array,
    kernel: jax.Array,
    memory: jax.Array | None,
    tap: RowSparse | None,
) -> jax.Array:
    del memory
    return product.forward(x, kernel, tap)


def _forward(
    product: Product,
    x: jax.Array,
    kernel: jax.Array,
    memory: jax.Array | None,
    tap: RowSparse | None,
) -> tuple[jax.Array, Any]:
    return product.forward(x, kernel, tap), (x, kernel, memory, tap)


def _backward(product: Product, residuals: Any, cotangent: jax.Array) -> tuple[Any, ...]:
    x, kernel, memory, tap = residuals
    of_x, of_kernel = product.contracting
    output_shape = tuple(n for axis, n in enumerate(kernel.shape) if axis not in of_kernel)
    selected = select_flat(product.rule, cotangent, memory, output_shape, product.rows)
    if not selected.is_compact:
        if tap is not None:
            raise ValueError(_misfit(selected, tap))
        chosen = selected.values.reshape(cotangent.shape)
        (dx,) = jax.linear_transpose(lambda x: product.dense(x, kernel), x)(chosen)
        (dkernel,) = jax.linear_transpose(lambda w: product.dense(x, w), kernel)(chosen)
        return dx, dkernel, selected.increment, None

    # Two dimensions from here: x [R, I], kernel [I, O]. For nn.Dense these are no operations at
    # all.
    x_free = [axis for axis in range(x.ndim) if axis not in of_x]
    kernel_free = [axis for axis in range(kernel.ndim) if axis not in of_kernel]
    inputs = math.prod(x.shape[axis] for axis in of_x)
    x_rows = x.transpose(*x_free, *of_x).reshape(-1, inputs)
    kernel_matrix = kernel.transpose(*of_kernel, *kernel_free).reshape(inputs, -1)
    selected = gathered_unless_kernels_run(selected, x_rows, kernel_matrix, product.precision)
    dx_rows = input_gradient(selected, kernel_matrix, tap, product.precision)
    drows = kernel_rows(selected, x_rows, tap, product.precision)
    if selected.blocks is not None:
        # No update of the kernel before the product that reads it: else XLA copies all of it.
        dx_rows, drows = lax.optimization_barrier((dx_rows, drows))
    x_shape = [x.shape[axis] for axis in (*x_free, *of_x)]
    inverse = sorted(range(x.ndim), key=(*x_free, *of_x).__getitem__)
    dx = dx_rows.reshape(x_shape).transpose(inverse).astype(x.dtype)

    if tap is not None:
        if selected.kept.shape[0] > tap.columns.shape[0]:
            raise ValueError(_misfit(selected, tap))
        outputs = kernel_matrix.shape[1]
        return dx, None, selected.increment, tap.filled(drows, selected.kept, outputs)

    dcolumns = drows.astype(kernel.dtype)
    dmatrix = among_zeros(selected, dcolumns, kernel_matrix.shape)
    kernel_shape = [kernel.shape[axis] for axis in (*of_kernel, *kernel_free)]
    inverse = sorted(range(kernel.ndim), key=(*of_kernel, *kernel_free).__getitem__)
    return dx, dmatrix.reshape(kernel_shape).transpose(inverse), selected.increment, None


_product.defvjp(_forward, _backward)


def _misfit(selected: Selection, tap: RowSparse) -> str:
    found = f"{selected.kept.shape[0]} columns" if selected.is_compact else "a mask"
    return (
        f"row_sparse: the gradient was given room for {tap.columns.shape[0]} columns at init and this call selects "
        f"{found}; call init with the largest batch that you train with, or give rows="
    )


def sparse_dot_general(
    x: jax.Array,
    kernel: jax.Array,
    memory: jax.Array | None,
    dimension_numbers: DimensionNumbers,
    rule: BackwardRule,
    *,
    rows: int | None = None,
    tap: RowSparse | None = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """`lax.dot_general` whose backward pass lets `rule` select from the output's gradient.

        y = x W;    g = select(dy, M);    dx = g W^T,    dW = x^T g,    "dM" = increment of M

    Args:
      x: inputs, [..., I], any axes contracted.
      kernel: weights, contracted axes I and free axes O.
      memory: what `rule.init(shape of the free axes of kernel, rows)` returned; its cotangent is
        its increment.
      dimension_numbers: as for `lax.dot_general`, without batch dimensions.
      rule: a backward rule.
      rows: rows that reach the layer per optimizer step; None means the rows of this call.
      tap: zeros made by `RowSparse.tap`; its cotangent is the kernel's row-sparse gradient, and the
        kernel's own is zero.
      precision: as for `lax.dot_general`, for forward and backward products.
      preferred_element_type: as for `lax.dot_general`, forward.
      out_sharding: as for `lax.dot_general`, forward.

    Returns:
      y, exactly as `lax.dot_general` gives it.

    Raises:
      ValueError: batch dimensions, or a selection that does not fit the tap.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from sparsetrain import backward
      >>> x, kernel = jnp.ones((2, 3)), jnp.eye(3)
      >>> def loss(kernel):
      ...     y = sparse_dot_general(x, kernel, None, (((1,), (0,)), ((), ())), backward.top_k(density=0.34))
      ...     return (y @ jnp.array([1.0, 3.0, 2.0])).sum()
      >>> jax.grad(loss)(kernel)[0].tolist()
      [0.0, 6.0, 0.0]
    """
    (of_x, of_kernel), (batch_x, batch_kernel) = dimension_numbers
    if batch_x or batch_kernel:
        raise ValueError(
            f"dimension_numbers={dimension_numbers}: batch dimensions have no sparse backward; "
            "leave this layer out of the rules"
        )
    contracting = (tuple(of_x), tuple(of_kernel))
    product = Product(rule, rows, contracting, precision, preferred_element_type, out_sharding)
    return _product(product, x, kernel, memory, tap)
