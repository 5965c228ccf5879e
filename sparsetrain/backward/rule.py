"""What a sparse backward rule is.

A layer `h = x W` receives the cotangent `dh` [R, O] of its output: R rows (examples, positions,
time steps) of O outputs. Plain backpropagation multiplies all of it: `dx = dh W^T`, `dW = x^T dh`.
A *rule* first decides which entries of `dh` take part, and what to remember of the others:

    rule                memory              select
    dense               -                   g = dh
    top_k               -                   g_i = S_k(dh_i)                     SBP, meProp
    memorized_top_k     M [O] ("mean")      g_i = S_k(dh_i + M / rows)          MSBP
                        m [rows, O] "slot"  g_i = S_k(dh_i + m_i)
    unified_top_k       - or M [O]          one column set for all rows
    random_k            a step counter      one random column set for all rows

The memory never becomes a side effect. It is a differentiable input of the layer's product, and the
backward pass returns its *increment* in the place of its gradient. Increments of several calls add
up, as gradients do, and an optimizer that "applies" them by adding (`carry_memory`) leaves the new
memory behind. Memory is kept as the stored total M: every row is given M / rows, and each call
returns

    increment = decay * sum_i (u_i - g_i) - (R / rows) * M,        u_i = dh_i + M / rows

so that the result does not depend on how the step's rows are split over calls.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from sparsetrain.backward.pairs import Pairs


class Blocks(NamedTuple):
    """Kept columns that are whole blocks of a cotangent which lies in memory: a kernel reads them where they are.

    Attributes:
      cotangent: dh, [R, O].
      numbers: int32 [nb], the kept blocks, in the order of `Selection.kept`.
    """

    cotangent: jax.Array
    numbers: jax.Array


class Selection(NamedTuple):
    """What a rule lets through.

    Attributes:
      values: what is multiplied; [R, K] when `kept` lists columns, else [R, O], zero off the mask.
      kept: int32 [K] distinct columns that all rows share (numbers >= O are padding, their values
        are zero), or bool [R, O].
      increment: change of the memory, in its shape and dtype; None for a rule without memory.
      pairs: where `kept` is a union over rows, the entries that each row keeps for itself; else None.
      blocks: where `values` are blocks of the cotangent itself, which ones; else None.
    """

    values: jax.Array
    kept: jax.Array
    increment: jax.Array | None
    pairs: Pairs | None = None
    blocks: Blocks | None = None

    @property
    def is_compact(self) -> bool:
        """Whether `values` holds kept columns only."""
        return self.kept.dtype != jnp.bool_

    def astype(self, dtype: jax.typing.DTypeLike) -> "Selection":
        """The same selection with values of another dtype, which are then no blocks of the cotangent."""
        pairs = self.pairs
        if pairs is not None:
            pairs = pairs._replace(values=pairs.values.astype(dtype))
        return self._replace(values=self.values.astype(dtype), pairs=pairs, blocks=None)

    def to_dense(self, outputs: int) -> jax.Array:
        """The selected cotangent as [R, O], zeros where nothing was kept."""
        if not self.is_compact:
            return self.values
        zeros = jnp.zeros((self.values.shape[0], outputs), self.values.dtype)
        return zeros.at[:, self.kept].set(self.values, mode="drop", unique_indices=True)


@runtime_checkable
class BackwardRule(Protocol):
    """A frozen, hashable description of a selection; see the table above."""

    @property
    def shares_columns(self) -> bool:
        """Whether all rows keep the same columns; in a convolution these are channels."""
        ...

    def at(self, path: str) -> "BackwardRule":
        """This rule for the layer at a parameter path; only randomised rules differ by layer."""
        ...

    def width(self, outputs: int, rows: int) -> int | None:
        """Number of columns in a compact selection, or None where the selection is a mask."""
        ...

    def init(self, output_shape: tuple[int, ...], rows: int | None = None) -> jax.Array | None:
        """Memory at the start of training for outputs of this shape (one row), or None."""
        ...

    def select(
        self, cotangent: jax.Array, memory: jax.Array | None, rows: int | None = None
    ) -> Selection:
        """Chooses what of `cotangent` [R, O] takes part; `rows` None means R."""
        ...


def everything(cotangent: jax.Array, memory: jax.Array | None) -> Selection:
    """The selection that keeps all: exactly plain backpropagation."""
    increment = None if memory is None else jnp.zeros_like(memory)
    return Selection(cotangent, jnp.ones(cotangent.shape, bool), increment)


def check_groups(outputs: int, groups: int, name: str = "groups") -> int:
    """Outputs per group, or a ValueError if the outputs do not divide."""
    if groups < 1 or outputs % groups:
        raise ValueError(f"{name}={groups}: must divide the layer's {outputs} outputs")
    return outputs // groups
