"""A kernel's gradient with K of O rows, and how it is added to the kernel in place."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False)
class RowSparse:
    """Rows of a kernel, one for each kept output.

    `kernel + RowSparse` is the kernel with those rows changed, so `optax.apply_updates` takes it as
    it is. Under `jit` with a donated kernel the addition happens in place.

    Attributes:
      values: [K, I] where the kernel is stored as [O, I] (axis 0), [I, K] where it is [I, O] (axis
        1).
      columns: [K] which outputs; int32, distinct, numbers >= O are padding. Float while it travels
        as a cotangent (exact below 2^24). None: all outputs, in order.
      calls: float scalar, how many calls were summed into this gradient; more than one cannot be
        added and reads as NaN.
      axis: 0 or 1, the kernel's output axis.
    """

    values: Any
    columns: Any = None
    calls: Any = None
    axis: int = dataclasses.field(default=0, metadata={"static": True})

    __array_ufunc__ = None  # so that a NumPy kernel also defers to __radd__

    @classmethod
    def tap(cls, inputs: int, width: int, dtype: Any, axis: int) -> "RowSparse":
        """Zeros that enter a product so that its row-sparse gradient can come out.

        Args:
          inputs: I.
          width: K, the most columns a call may select.
          dtype: of the kernel.
          axis: the kernel's output axis, 0 or 1.
        """
        shape = (width, inputs) if axis == 0 else (inputs, width)
        zero = jnp.zeros((), jnp.float32)
        return cls(jnp.zeros(shape, dtype), jnp.zeros((width,), jnp.float32), zero, axis)

    def filled(
        self,
        rows: jax.Array,
        columns: jax.Array,
        outputs: int,
    ) -> "RowSparse":
        """The cotangent of a tap: g^T x for the kept columns, padded to the tap's width."""
        short = self.columns.shape[0] - columns.shape[0]
        if short:
            rows = jnp.pad(rows, ((0, short), (0, 0)) if self.axis == 0 else ((0, 0), (0, short)))
            # Beyond every column that a shorter selection may itself have used as padding.
            padding = outputs + columns.shape[0] + jnp.arange(short, dtype=columns.dtype)
            columns = jnp.concatenate([columns, padding])
        return RowSparse(
            rows.astype(self.values.dtype),
            columns.astype(self.columns.dtype),
            jnp.ones_like(self.calls),
            self.axis,
        )

    def as_read_back(self, columns: jax.Array) -> jax.Array:
        """Column numbers as the optimizer will see them, after their way through a float cotangent.

        With these the gather of kernel rows for dx and the optimizer's gather are one to the
        compiler. Two gathers would be unordered with the update in place, which costs two copies of
        the whole kernel.
        """
        return columns.astype(self.columns.dtype).astype(jnp.int32)

    def settled(self) -> "RowSparse":
        """The gradient that came back through a tap, ready to be used: integer columns, one call."""
        single = jnp.where(self.calls == 1, 1.0, jnp.nan).astype(self.values.dtype)
        return RowSparse(self.values * single, self.columns.astype(jnp.int32), None, self.axis)

    def replace(self, values: jax.Array) -> "RowSparse":
        """The same columns with other values."""
        return RowSparse(values, self.columns, self.calls, self.axis)

    def per_row(self, numbers: jax.Array) -> jax.Array:
        """One number a kept output, shaped so that it broadcasts against `values`."""
        return numbers[:, None] if self.axis == 0 else numbers[None, :]

    def _index(self) -> Any:
        if self.columns is None:
            return slice(None)
        if not jnp.issubdtype(self.columns.dtype, jnp.integer):
            raise TypeError(
                "this row-sparse update went through a transformation that also scaled its column numbers; "
                "inside carry_memory use sparsetrain.backward.row_sparse.sgd, adam and clip_by_global_norm"
            )
        return self.columns if self.axis == 0 else (slice(None), self.columns)

    def take(self, dense: jax.Array) -> jax.Array:
        """The rows of an array of the kernel's shape that this gradient names; padding repeats the last one."""
        return dense.at[self._index()].get(mode="clip")

    def put(self, dense: jax.Array, values: jax.Array) -> jax.Array:
        """`dense` with those rows set to `values`; padding is dropped."""
        return dense.at[self._index()].set(
            values.astype(dense.dtype), mode="drop", unique_indices=True
        )

    def __radd__(self, dense: jax.Array) -> jax.Array:
        # set(take + values) and not .add(values): with add XLA copies the whole kernel, twice.
        dense = jnp.asarray(dense)
        return self.put(dense, self.take(dense) + self.values)

    def to_dense(self, shape: tuple[int, ...]) -> jax.Array:
        """Zeros of the kernel's shape with these rows in place."""
        return self.put(jnp.zeros(shape, self.values.dtype), self.values)


def is_row_sparse(node: Any) -> bool:
    """Whether a node of a gradient tree is a `RowSparse`; made for `is_leaf=`."""
    return isinstance(node, RowSparse)
